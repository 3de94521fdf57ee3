/** `shoal doctor`: what this machine offers, what works, what will be slow and why. */
import type { Command, Invocation } from "../command.ts";
import { adviceFor } from "../doctor/advice.ts";
import { type EngineReport, examineEngine } from "../doctor/engine.ts";
import { type MachineReport, examineMachine } from "../doctor/machine.ts";
import { EXIT } from "../exitCodes.ts";
import { formatBytes, formatDuration, formatLimit, formatTable } from "../format.ts";
import { DEVICE } from "../options.ts";
import { tuningLine } from "../tuning/choices.ts";
import { VERSION } from "../version.ts";

export const doctorCommand: Command = {
  name: "doctor",
  summary: "show adapters, features, limits and self-tests of this machine, what will be slow and why",
  arguments: "",
  maxWords: 0,
  options: ["json", ...DEVICE],
  notes: ["Exit code 1 where no adapter works."],
  run: runDoctor,
};

async function runDoctor({ values, terminal, interrupts }: Invocation): Promise<number> {
  const { webgpu = "auto" } = values;
  const machine = await examineMachine();
  const engines: EngineReport[] = [];
  for (const engine of webgpu === "auto" ? (["dawn", "wgpu"] as const) : [webgpu])
    engines.push(await examineEngine(engine, engine === "dawn" ? values.adapter : undefined, interrupts.signal));
  const advice = adviceFor(machine, engines);
  if (values.json === true) terminal.out(`${JSON.stringify({ version: VERSION, machine, engines, advice }, null, 2)}\n`);
  else terminal.out(describeMachine(machine) + engines.map(describeEngine).join("") + `\n${advice.map((line) => `- ${line}\n`).join("")}`);
  return engines.some(({ device }) => device !== null) ? EXIT.ok : EXIT.failure;
}

function describeMachine({ system, architecture, cpus, memoryBytes, freeMemoryBytes, freeDiskBytes, deno, vulkan }: MachineReport): string {
  const disk = freeDiskBytes === null ? "" : `, ${formatBytes(freeDiskBytes)} free here`;
  return formatTable([
    ["shoal", `${VERSION}, Deno ${deno}`],
    ["Machine", `${system} ${architecture}, ${cpus} CPUs`],
    ["Memory", `${formatBytes(memoryBytes)}, ${formatBytes(freeMemoryBytes)} free`],
    ["Disk", `model files are read where they are${disk}`],
    ["Vulkan", vulkan === null ? "not used on this system" : vulkan.drivers.length === 0 ? "no driver found" : vulkan.drivers.join(", ")],
    ...Object.entries(vulkan?.environment ?? {}).map(([name, value]) => [name, value]),
  ]);
}

function describeEngine({ engine, problem, device, times }: EngineReport): string {
  const title = engine === "wgpu" ? "Deno's wgpu (--webgpu wgpu)" : "Dawn (--webgpu dawn)";
  if (!device) return `\n${title}\n  ${problem ?? "does not work"}\n`;
  const { adapter, dialect, limits } = device;
  const { subgroupMatrix: matrix } = dialect;
  const limit = (name: string): string => formatLimit(limits[name] ?? 0);
  const subgroups =
    dialect.subgroups === "none" ? "no" : dialect.subgroupSize > 0 ? `yes, of ${dialect.subgroupSize}` : "yes, of varying size";
  const rows = [
    ["Adapter", [adapter.description, adapter.vendor, adapter.architecture, adapter.device].filter((part) => part !== "").join(", ")],
    ["Kind", adapter.isSoftware ? "software: it runs on the CPU" : "hardware"],
    ["FP8 self-test", `passed, all 256 codes, decoded by ${dialect.fp8Decode}`],
    ["Subgroups", subgroups],
    ["f16", dialect.f16 ? "yes" : "no"],
    ["Subgroup matrices", matrix ? `yes, ${matrix.m} x ${matrix.n} x ${matrix.k}, tested: prefill uses them` : "no"],
    ["Timestamps", dialect.timestampQuery ? "yes" : "no"],
    ["Largest buffer", `${limit("maxBufferSize")}, ${limit("maxStorageBufferBindingSize")} in one binding`],
    ["Bindings", `${limits["maxStorageBuffersPerShaderStage"] ?? 0} storage buffers in a shader`],
    ["Workgroup", `${limits["maxComputeInvocationsPerWorkgroup"] ?? 0} invocations, ${limit("maxComputeWorkgroupStorageSize")} of memory`],
    ...(times
      ? [
          [
            "Readback",
            formatDuration(times.readbackMs) === "0 ms" ? `${times.readbackMs.toFixed(2)} ms` : `${times.readbackMs.toFixed(1)} ms`,
          ],
          ["Upload", `${formatBytes(times.uploadBytesPerSecond)}/s`],
          ["Memory", `${formatBytes(times.copyBytesPerSecond)}/s in a copy, read and written`],
        ]
      : []),
    ["Tuning", tuningLine(device.tuning)],
    ["Tuning table", device.tuning.problem ?? device.tuning.file],
    ["Features", device.features.join(", ")],
  ];
  return `\n${title}\n${formatTable(rows.map(([name = "", value = ""]) => [`  ${name}`, value]))}`;
}
