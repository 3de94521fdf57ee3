/**
 * Makes sure that Deno finds a GPU: a real one where there is one with its driver, else lavapipe. What was decided and tried out is
 * stamped with a fingerprint of the machine, so that a new card or driver is noticed and nothing else costs time.
 */
import { existsSync } from "node:fs";
import path from "node:path";
import { Apt, readOsRelease } from "./apt.mjs";
import { runCommand } from "./command.mjs";
import { createRuntimeDir, gpuEnvironment } from "./environment.mjs";
import { reportText } from "./errors.mjs";
import { decideGpu } from "./gpu-decision.mjs";
import { installAdvice, setUpLavapipe } from "./lavapipe.mjs";
import { note, step } from "./progress.mjs";
import { fingerprint, readStamp, writeStamp } from "./stamp.mjs";
import { readVulkanSnapshot } from "./vulkan-snapshot.mjs";

/**
 * @typedef {object} GpuContext
 * @property {string} deno path of its binary
 * @property {string} stateDir
 * @property {import("./gpu-decision.mjs").VulkanSnapshot} machine
 * @property {import("./command.mjs").Runner} run
 * @property {boolean} root
 * @property {{ id: string, like: string[], codename: string }} os
 *
 * @typedef {{ driverFiles: string | undefined, adapter: string }} GpuSetup `adapter`: its name, "" when none answered
 */

/**
 * @param {string} deno
 * @param {string} stateDir
 * @returns {GpuContext}
 */
export function thisMachine(deno, stateDir) {
  return {
    deno,
    stateDir,
    machine: readVulkanSnapshot(),
    run: runCommand,
    root: process.getuid?.() === 0,
    os: readOsRelease(),
  };
}

/**
 * @param {GpuContext} context
 * @returns {GpuSetup | undefined} what an earlier setup on this same machine found
 */
export function knownGpu(context) {
  const decision = decideGpu(context.machine);
  if (decision.kind === "native" || decision.kind === "user") return { driverFiles: undefined, adapter: "" };
  const stamp = readStamp(stampFile(context));
  if (typeof stamp !== "object" || stamp === null || !("of" in stamp) || stamp.of !== machineFingerprint(context)) return undefined;
  const { driverFiles, adapter } = /** @type {{ driverFiles?: string, adapter?: string }} */ (stamp);
  if (driverFiles !== undefined && !existsSync(driverFiles)) return undefined;
  return { driverFiles, adapter: adapter ?? "" };
}

/**
 * Never throws for want of a GPU, since much of Shoal works without one: it says what is missing and returns an empty adapter name.
 * @param {GpuContext} context
 * @returns {Promise<GpuSetup>}
 */
export async function setUpGpu(context) {
  const decision = decideGpu(context.machine);
  if (decision.kind === "native" || decision.kind === "user") return { driverFiles: undefined, adapter: "" };
  if (decision.kind === "hardware") {
    const found = await tryHardware(context, decision);
    if (found !== undefined) return finish(context, found);
  } else if (decision.undriven.length > 0) {
    note(`There is a ${decision.undriven.join(" and a ")} without a Vulkan driver: install its maker's driver to use it.`);
  }
  return setUpSoftware(context);
}

/**
 * @param {GpuContext} context
 * @param {Extract<import("./gpu-decision.mjs").GpuDecision, { kind: "hardware" }>} decision
 * @returns {Promise<GpuSetup | undefined>} undefined when no adapter answers
 */
async function tryHardware(context, decision) {
  if (!decision.loader) {
    if (!hasApt(context) || !context.root) {
      note("There is a GPU and its driver, but no Vulkan loader (libvulkan.so.1).");
      note(
        hasApt(context) ? installAdvice(["libvulkan1"]) : "Install your distribution's Vulkan loader (vulkan-loader, vulkan-icd-loader).",
      );
      return undefined;
    }
    await step("Vulkan loader", () => new Apt(context.run).install(["libvulkan1"]));
  }
  const adapter = await step("GPU", () => probeAdapter(context, decision.useManifest));
  if (adapter !== "") return { driverFiles: decision.useManifest, adapter };
  note(`No adapter answers from ${decision.drivers.map((driver) => driver.manifest).join(", ")}; going on with a software one.`);
  return undefined;
}

/**
 * @param {GpuContext} context
 * @returns {Promise<GpuSetup>}
 */
async function setUpSoftware(context) {
  const none = { driverFiles: undefined, adapter: "" };
  if (!hasApt(context)) {
    const adapter = await step("software GPU", () => probeAdapter(context, undefined));
    if (adapter !== "") return finish(context, { driverFiles: undefined, adapter });
    note("There is no Vulkan driver. Install your distribution's Vulkan loader and lavapipe (Mesa's software driver), for example:");
    note("  Fedora: sudo dnf install vulkan-loader mesa-vulkan-drivers    Arch: sudo pacman -S vulkan-icd-loader vulkan-swrast");
    return none;
  }
  try {
    const driverFiles = await step("software GPU (no real GPU with a Vulkan driver found)", (remark) =>
      setUpLavapipe({ ...context, apt: new Apt(context.run), dir: path.join(context.stateDir, "vulkan"), note: remark }),
    );
    const adapter = await probeAdapter(context, driverFiles);
    if (adapter !== "") return finish(context, { driverFiles, adapter });
    note("Lavapipe is installed, but no adapter answers: look at `npm run -s shoal -- doctor`.");
  } catch (error) {
    note(reportText(error));
  }
  return none;
}

/**
 * Asks Deno for an adapter, in a process of its own as a driver may crash.
 * @param {GpuContext} context
 * @param {string | undefined} driverFiles
 * @returns {Promise<string>} its name, "" when there is none
 */
async function probeAdapter({ deno, stateDir, run, machine }, driverFiles) {
  const added = gpuEnvironment({ platform: machine.platform, env: process.env, stateDir, driverFiles });
  createRuntimeDir(added);
  const code = `const adapter = await navigator.gpu.requestAdapter({ powerPreference: "high-performance" });
    console.log(adapter === null ? "" : adapter.info.description || adapter.info.device || "unnamed");`;
  const result = await run(deno, ["eval", code], { env: added, timeoutMs: 60_000 });
  return result.code === 0 ? result.stdout.trim() : "";
}

/**
 * @param {GpuContext} context
 * @param {GpuSetup} setup
 */
function finish(context, setup) {
  // The snapshot is read again: installing drivers has changed it.
  const after = { ...context, machine: readVulkanSnapshot() };
  writeStamp(stampFile(context), { of: machineFingerprint(after), ...setup });
  return setup;
}

/** @param {GpuContext} context */
function hasApt({ os }) {
  return [os.id, ...os.like].some((id) => id === "debian" || id === "ubuntu");
}

/**
 * The system's own lavapipe does not count: it may come along with another package, Chromium for one, and changes nothing.
 * @param {GpuContext} context
 */
function machineFingerprint({ machine, deno, stateDir }) {
  return fingerprint([JSON.stringify({ ...decideGpu(machine), lavapipe: undefined }), deno, stateDir]);
}

/** @param {GpuContext} context */
function stampFile({ stateDir }) {
  return path.join(stateDir, "gpu.json");
}
