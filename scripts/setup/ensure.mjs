/** Setup as a whole: what a checkout needs before `shoal` can run in it, done at most once and only by one process at a time. */
import path from "node:path";
import { runCommand } from "./command.mjs";
import { denoBinary } from "./deno.mjs";
import { dependenciesAreInstalled, installDependencies } from "./dependencies.mjs";
import { createRuntimeDir, gpuEnvironment } from "./environment.mjs";
import { knownGpu, setUpGpu, thisMachine } from "./gpu.mjs";
import { withLock } from "./lock.mjs";
import { root, stateDir } from "./paths.mjs";
import { note, step } from "./progress.mjs";
import { exitingOnSignals } from "./signals.mjs";

/**
 * @typedef {object} Ready
 * @property {string} deno path of the Deno binary
 * @property {Record<string, string>} env to add to the environment of whatever uses the GPU
 * @property {string} adapter what setup found, "" when it found none or has no say in it
 */

/**
 * @returns {Promise<Ready>}
 */
export async function ensureReady() {
  const ready = readyAlready();
  if (ready !== undefined) return ready;
  const onWait = (/** @type {number} */ pid) => note(`Another setup is running in this checkout (process ${pid}): waiting for it.`);
  return exitingOnSignals("Setup interrupted: the next start goes on from here.", () =>
    withLock(path.join(stateDir, "setup.lock"), setUp, { onWait }),
  );
}

/** @returns {Ready | undefined} */
function readyAlready() {
  if (!dependenciesAreInstalled(root, stateDir)) return undefined;
  const deno = denoBinary(root);
  const gpu = knownGpu(thisMachine(deno, stateDir));
  return gpu === undefined ? undefined : readyWith(deno, gpu);
}

/**
 * What ensureReady() would give, whether or not dependencies are up to date; setup runs only where the GPU is not known yet.
 * @returns {Promise<Record<string, string>>}
 */
export async function gpuEnvironmentOnly() {
  try {
    const deno = denoBinary(root);
    const gpu = knownGpu(thisMachine(deno, stateDir));
    if (gpu !== undefined) return readyWith(deno, gpu).env;
  } catch {
    // No Deno yet: set everything up.
  }
  return (await ensureReady()).env;
}

/** @returns {Promise<Ready>} */
async function setUp() {
  if (!dependenciesAreInstalled(root, stateDir)) await step("dependencies", () => installDependencies(root, stateDir, runCommand));
  const deno = denoBinary(root);
  const machine = thisMachine(deno, stateDir);
  return readyWith(deno, knownGpu(machine) ?? (await setUpGpu(machine)));
}

/**
 * @param {string} deno
 * @param {import("./gpu.mjs").GpuSetup} gpu
 * @returns {Ready}
 */
function readyWith(deno, { driverFiles, adapter }) {
  const env = gpuEnvironment({ platform: process.platform, env: process.env, stateDir, driverFiles });
  createRuntimeDir(env);
  return { deno, env, adapter };
}
