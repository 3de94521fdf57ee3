/** Runs the `shoal` command in Deno with this terminal, and ends as it ended. */
import { spawn } from "node:child_process";
import { constants } from "node:os";
import path from "node:path";
import { ensureReady } from "./ensure.mjs";
import { reportText } from "./errors.mjs";
import { root, runnerEntry, runnerFlags } from "./paths.mjs";

/**
 * Sets up what is missing, then runs `shoal ARGS`. Paths among ARGS are relative to where npm was called, as a person means them.
 * @param {string[]} args
 * @returns {Promise<number>} the exit code
 */
export async function launchShoal(args) {
  let ready;
  try {
    ready = await ensureReady();
  } catch (error) {
    process.stderr.write(`${reportText(error)}\n`);
    return 1;
  }
  return runAttached(ready.deno, ["run", ...runnerFlags, path.join(root, runnerEntry), ...args], {
    cwd: process.env["INIT_CWD"] ?? process.cwd(),
    env: { ...process.env, ...ready.env },
  });
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd: string, env: Record<string, string | undefined> }} options
 * @returns {Promise<number>}
 */
export function runAttached(command, args, options) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { ...options, stdio: "inherit" });
    // The terminal sends Ctrl-C to the child as well: this process only waits for what the child makes of it. The other two come to
    // this process alone.
    const ignore = () => {};
    const forward = (/** @type {NodeJS.Signals} */ signal) => child.kill(signal);
    process.on("SIGINT", ignore);
    process.on("SIGTERM", forward);
    process.on("SIGHUP", forward);
    const done = (/** @type {number} */ code) => {
      process.off("SIGINT", ignore);
      process.off("SIGTERM", forward);
      process.off("SIGHUP", forward);
      resolve(code);
    };
    child.on("error", (error) => {
      process.stderr.write(`Cannot start "${command}": ${error.message}\n`);
      done(127);
    });
    child.on("close", (code, signal) => done(code ?? 128 + (signal === null ? 0 : constants.signals[signal])));
  });
}
