/** The environment in which Deno finds the GPU that setup decided on. What the user has set stays. */
import { mkdirSync } from "node:fs";
import path from "node:path";

/**
 * @param {{ platform: string, env: Record<string, string | undefined>, stateDir: string, driverFiles: string | undefined }} machine
 *   `driverFiles`: the manifest of the one driver to use, undefined to let the Vulkan loader find them
 * @returns {Record<string, string>} only what is to be added
 */
export function gpuEnvironment({ platform, env, stateDir, driverFiles }) {
  /** @type {Record<string, string>} */
  const added = {};
  if (!env["DENO_NO_UPDATE_CHECK"]) added["DENO_NO_UPDATE_CHECK"] = "1";
  if (platform !== "linux") return added;
  // Without it, a missing Vulkan driver silently becomes a GL adapter.
  if (!env["DENO_WEBGPU_BACKEND"]) added["DENO_WEBGPU_BACKEND"] = "vulkan";
  // Mesa prints an error without one.
  if (!env["XDG_RUNTIME_DIR"]) added["XDG_RUNTIME_DIR"] = path.join(stateDir, "run");
  if (driverFiles !== undefined && !env["VK_DRIVER_FILES"] && !env["VK_ICD_FILENAMES"]) added["VK_DRIVER_FILES"] = driverFiles;
  return added;
}

/** @param {Record<string, string>} added what gpuEnvironment() gave */
export function createRuntimeDir(added) {
  const dir = added["XDG_RUNTIME_DIR"];
  if (dir !== undefined) mkdirSync(dir, { recursive: true, mode: 0o700 });
}

/**
 * @param {Record<string, string>} variables
 * @returns {string} lines for a POSIX shell
 */
export function exportLines(variables) {
  return Object.entries(variables)
    .map(([name, value]) => `export ${name}='${value.replaceAll("'", "'\\''")}'\n`)
    .join("");
}
