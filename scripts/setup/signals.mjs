/** Ends this process by its exit event when it is interrupted, so that locks are let go and running commands ended. */
import { constants } from "node:os";

const SIGNALS = /** @type {const} */ (["SIGINT", "SIGTERM", "SIGHUP"]);

/**
 * @template T
 * @param {string} message printed to stderr
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function exitingOnSignals(message, work) {
  const leave = (/** @type {NodeJS.Signals} */ signal) => {
    process.stderr.write(`\n${message}\n`);
    process.exit(128 + constants.signals[signal]);
  };
  for (const signal of SIGNALS) process.on(signal, leave);
  try {
    return await work();
  } finally {
    for (const signal of SIGNALS) process.off(signal, leave);
  }
}
