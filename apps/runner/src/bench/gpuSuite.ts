/** `shoal bench --suite gpu`: large models' shapes against what the device can do. Each row is told on standard error when it ends. */
import { open, readFile, writeFile } from "node:fs/promises";
import { type DemoConfigs, GPU_ROWS, type GpuRow, type GpuRowName, isGpuRowName, ratioRow, traceFile } from "@shoal/model/bench";
import type { Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import type { DeviceReport, DeviceRequest, GpuBenchEvent, GpuBenchRequest } from "../gpu/protocol.ts";
import { adapterLine, deviceRequest, withGpu } from "../gpu/session.ts";
import { openModel } from "../model/openModel.ts";
import { type GpuReport, gpuTable, rowLine } from "./gpuReport.ts";
import { DEFAULT_PROMPT, EMBEDDED_ANSWER, knownPrompt } from "./knownPrompt.ts";
import { reportHead } from "./report.ts";

const ENGINE_NAMES = { wgpu: "Deno's wgpu", dawn: "Dawn" } as const;

/** @returns a failure where a row is wrong, not where one is slow or skipped */
export async function runGpuSuite(invocation: Invocation, names: readonly string[] | undefined): Promise<number> {
  const { values, terminal, interrupts } = invocation;
  const { signal } = interrupts;
  const only = names?.map(rowName);
  if (values.trace !== undefined) await checkTrace(values.trace);
  const configs = await demoConfigs();
  const tiny = await tinyRequest(invocation);
  return withGpu(async (client) => {
    const request = deviceRequest(values);
    const device = await client.open(request, signal);
    terminal.err(`Adapter: ${adapterLine(device)}\n`);
    const size = device.adapter.isSoftware ? "small" : "full";
    if (size === "small") terminal.err("Shapes: small ones for a software adapter; figures mean little, and have no targets\n");
    const both = only?.includes("16b-wgpu") === true && !only.includes("16b-decode") ? [...only, "16b-decode" as const] : only;
    const suite: GpuBenchRequest = { size, configs, tiny, ...(both && { only: both }) };
    const onEvent = (event: GpuBenchEvent): void =>
      terminal.err("row" in event ? `Bench: ${rowLine(event.row)}\n` : `Bench: ${event.phase.row}, ${event.phase.what}\n`);
    const { timelines, ...result } = await client.benchGpu(suite, onEvent, signal);
    let rows = result.rows;
    if (only?.includes("16b-wgpu") ?? true) {
      const ratio = await otherEngine({ request, device, suite, rows, onEvent, signal });
      terminal.err(`Bench: ${rowLine(ratio)}\n`);
      rows = [...rows, ratio];
    }
    rows = rows.toSorted((a, b) => GPU_ROWS.indexOf(a.name) - GPU_ROWS.indexOf(b.name));
    const report: GpuReport = { ...reportHead(device), suite: "gpu", ...result, rows };
    terminal.out(values.json === true ? `${JSON.stringify(report, null, 2)}\n` : gpuTable(report));
    if (values.trace !== undefined) {
      const about = { adapter: adapterLine(device), engine: report.engine, version: report.version, date: report.date };
      await writeTrace(values.trace, JSON.stringify(traceFile(timelines, about)));
    }
    return rows.some(({ status }) => status === "failed") ? EXIT.failure : EXIT.ok;
  });
}

interface OtherEngine {
  readonly request: DeviceRequest;
  readonly device: DeviceReport;
  readonly suite: GpuBenchRequest;
  readonly rows: readonly GpuRow[];
  readonly onEvent: (event: GpuBenchEvent) => void;
  readonly signal: AbortSignal;
}

/** The same decode through the engine that was not asked for, in a worker of its own: Deno's wgpu blocks the thread that it waits in. */
async function otherEngine({ request, device, suite, rows, onEvent, signal }: OtherEngine): Promise<GpuRow> {
  const engine = device.dialect.engine === "dawn" ? "wgpu" : "dawn";
  const own = rows.find(({ name }) => name === "16b-decode");
  if (own?.status !== "ok") return ratioRow(ENGINE_NAMES[engine], own, own);
  return withGpu(async (client) => {
    try {
      await client.open({ ...request, webgpu: engine, adapterName: engine === "dawn" ? request.adapterName : undefined }, signal);
      const { rows: others } = await client.benchGpu({ ...suite, only: ["16b-decode"] }, onEvent, signal);
      const other = others.find(({ name }) => name === "16b-decode");
      return ratioRow(ENGINE_NAMES[engine], other, own);
    } catch (error) {
      if (signal.aborted) throw error;
      const reason = { message: error instanceof Error ? error.message : String(error) };
      const head = { name: "16b-wgpu", what: `16b-decode through ${ENGINE_NAMES[engine]}`, arithmetic: "plain" } as const;
      const isMissing = error instanceof Error && error.name === "NoAdapterError";
      return isMissing
        ? { ...head, status: "skipped", reason: { code: "no-engine", ...reason } }
        : { ...head, status: "failed", reason: { code: error instanceof Error ? error.name : "Error", ...reason } };
    }
  });
}

function rowName(name: string): GpuRowName {
  if (isGpuRowName(name)) return name;
  throw new UsageError(`Cannot measure '${name}', expected one of ${GPU_ROWS.join(", ")}`, "bench");
}

async function demoConfigs(): Promise<DemoConfigs> {
  const read = async (name: string): Promise<object> => {
    const parsed: unknown = JSON.parse(await readFile(new URL(`../../../../configs/${name}.json`, import.meta.url), "utf8"));
    if (typeof parsed !== "object" || parsed === null) throw new RunnerError(`Cannot use 'configs/${name}.json': it is no JSON object`);
    return parsed;
  };
  return { demo16B: await read("config_16B"), demo671B: await read("config_671B") };
}

async function tinyRequest({ interrupts }: Invocation): Promise<GpuBenchRequest["tiny"]> {
  const model = await openModel({}, interrupts.signal);
  try {
    const { promptIds, expectedIds = [] } = knownPrompt(model, DEFAULT_PROMPT, EMBEDDED_ANSWER);
    return { location: model.location, promptIds, expectedIds };
  } finally {
    await model.checkpoint.close();
  }
}

/** Before minutes are spent on what it is to hold. Whatever the file has stays until then. @throws RunnerError */
function checkTrace(file: string): Promise<void> {
  return forTrace(file, async () => (await open(file, "a")).close());
}

function writeTrace(file: string, text: string): Promise<void> {
  return forTrace(file, () => writeFile(file, text));
}

async function forTrace(file: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (cause) {
    throw new RunnerError(`Cannot write the trace '${file}': ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}
