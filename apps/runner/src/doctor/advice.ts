/** Plain words on what will be slow here and why, and what would help. Pure. */
import { formatBytes, formatLimit } from "../format.ts";
import type { EngineReport } from "./engine.ts";
import type { MachineReport } from "./machine.ts";

/** Above this, waiting for a readback costs more than a decode step of a small model. */
const SLOW_READBACK_MS = 5;
/** WebGPU promises this much in one binding everywhere. */
const SMALL_BINDING_BYTES = 2 ** 30;

export function adviceFor(
  { vulkan, system }: Pick<MachineReport, "vulkan" | "system">,
  engines: readonly EngineReport[],
): readonly string[] {
  const working = engines.filter(({ device }) => device !== null);
  const best = chosenOf(working);
  if (!best?.device) return noAdapter({ vulkan, system });
  const { adapter, dialect, limits } = best.device;
  const name = best.engine === "dawn" ? "Dawn" : "Deno's wgpu";
  const advice = engines.length > 1 ? [`Without --webgpu, models run through ${name}${why(best, working)}.`] : [];
  for (const { engine, problem, device } of engines) {
    if (!device) advice.push(`${engine === "dawn" ? "Dawn" : "Deno's wgpu"} does not work here: ${problem ?? "unknown"}`);
    else if (problem !== null) advice.push(`${engine === "dawn" ? "Dawn" : "Deno's wgpu"} opened a device that then failed: ${problem}`);
  }
  if (adapter.isSoftware)
    advice.push(
      "The adapter runs on the CPU: right, but slow. The embedded model is usable; for larger ones install the driver of a real GPU.",
    );
  const bandwidth = best.times?.copyBytesPerSecond;
  if (bandwidth !== undefined)
    advice.push(
      `Decoding reads every used weight once a token: at ${formatBytes(bandwidth)}/s a model of 1 GB of used weights makes at most ${Number((bandwidth / 1e9).toPrecision(2))} tokens/s.`,
    );
  const slow = working.find(({ times }) => (times?.readbackMs ?? 0) > SLOW_READBACK_MS);
  if (slow)
    advice.push(
      `Reading results back takes ${slow.times?.readbackMs.toFixed(0)} ms through ${slow.engine}; tokens then come in small batches${slow.engine === best.engine ? "" : `, unlike through ${name}`}.`,
    );
  if (dialect.subgroups === "none") advice.push("Without subgroups, sums go through workgroup memory: decoding is somewhat slower.");
  if (!dialect.f16) advice.push("Without f16 nothing is lost but speed: weights stay FP8 and sums are f32 either way.");
  if (dialect.fp8Decode === "select") advice.push("The faster FP8 decoder fails its self-test here; the exact, slower one is used.");
  if (!dialect.timestampQuery) advice.push("Without timestamp queries kernels cannot be timed one by one.");
  const binding = limits["maxStorageBufferBindingSize"] ?? 0;
  if (binding < SMALL_BINDING_BYTES)
    advice.push(`One binding holds ${formatLimit(binding)}: larger matrices are split, and a long context may not fit.`);
  return advice;
}

/** What `--webgpu auto` takes, as `openDenoGpu` decides it: Dawn, but the built-in engine where that one's adapter is a software one. */
function chosenOf(working: readonly EngineReport[]): EngineReport | undefined {
  const builtIn = working.find(({ engine }) => engine === "wgpu");
  if (builtIn?.device?.adapter.isSoftware === true) return builtIn;
  return working.find(({ engine }) => engine === "dawn") ?? builtIn;
}

function why({ engine }: EngineReport, working: readonly EngineReport[]): string {
  if (working.length < 2) return "";
  return engine === "wgpu" ? ": on a software adapter the faster readback of Dawn gains nothing" : ": its readback is the faster one";
}

function noAdapter({ vulkan, system }: Pick<MachineReport, "vulkan" | "system">): readonly string[] {
  const advice = ["No adapter works: nothing can run here yet."];
  if (system !== "linux") return [...advice, "Update the graphics driver."];
  const set = Object.entries(vulkan?.environment ?? {}).filter(([variable]) => variable.startsWith("VK_"));
  if (set.length > 0)
    advice.push(
      `${set.map(([variable, value]) => `${variable}='${value}'`).join(", ")} decides which drivers are found: unset it, or name a driver that exists.`,
    );
  if (vulkan?.drivers.length === 0) advice.push("There is no Vulkan driver.");
  return [
    ...advice,
    "A software adapter is enough to start: on Debian or Ubuntu 'apt-get install mesa-vulkan-drivers libvulkan1', or 'npm start' in a checkout as root.",
  ];
}
