/** `shoal bench --suite gpu` from end to end, at the shapes of software adapters: what it prints, and what it refuses. Its figures are no matter of tests. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { GPU_ROWS } from "@shoal/model/bench";
import { parseCommandLine } from "../src/args.ts";
import { COMMANDS } from "../src/commands/mod.ts";
import { Interrupts } from "../src/interrupts.ts";
import { FakeTerminal } from "./fakeTerminal.ts";
import { at, check, checkTypes } from "./reports.ts";
import { on, shoal, withDirectory } from "./shoal.ts";

/** What the JSON is made of: each name with the type that its value must have. */
const REPORT = {
  format: "number",
  suite: "string",
  version: "string",
  date: "string",
  engine: "string",
  "adapter.isSoftware": "boolean",
  "dialect.timestampQuery": "boolean",
  size: "string",
  "ceilings.readBytesPerSecond": "number",
  "ceilings.copyBytesPerSecond": "number",
  "ceilings.dispatchMs": "number",
  "ceilings.flopsPerSecond.plain": "number",
} as const;

const ROW = { what: "string", arithmetic: "string", value: "number", unit: "string", verified: "string" } as const;

/** Of rows that are measured here, not compared. */
const MEASURED = {
  "limit.by": "string",
  "limit.value": "number",
  "limit.ms.bytes": "number",
  "limit.ms.flops": "number",
  "limit.ms.dispatches": "number",
  shareOfLimit: "number",
  "work.tokens": "number",
  "work.bytes": "number",
  "work.flops": "number",
  "work.dispatches": "number",
} as const;

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> }[]> {
  return [
    { name: "shoal bench --suite gpu --json prints every row, verified, and writes a trace", run: () => printsRows(webgpu) },
    { name: "shoal bench --suite gpu --only prints a table of some rows", run: () => printsTable(webgpu) },
    { name: "shoal bench --suite gpu refuses rows and options that it does not have", run: () => refusesOthers(webgpu) },
    { name: "Ctrl-C ends shoal bench --suite gpu", run: () => endsByCtrlC(webgpu) },
  ];
}

async function printsRows(webgpu: DenoEngine): Promise<void> {
  await withDirectory(async (directory) => {
    const file = `${directory}/trace.json`;
    const { output, errors } = await bench(webgpu, "--json", "--trace", file);
    const report: unknown = JSON.parse(output);
    checkTypes(report, REPORT, "the report");
    check(errors.includes("Bench: layer-decode, verifying"), "standard error does not say what is going on");
    const rows = at(report, "rows");
    check(Array.isArray(rows), "there are no rows");
    for (const name of GPU_ROWS) {
      const ours: unknown[] = rows.filter((row: unknown) => at(row, "name") === name);
      check(ours.length > 0, `there is no row '${name}'`);
      for (const row of ours) checkRow(name, row, at(report, "dialect.timestampQuery") === true);
    }
    check(at(report, "size") === "full" || errors.includes("figures mean little"), "nothing says that the shapes are small");
    checkTrace(JSON.parse(await Deno.readTextFile(file)), at(report, "dialect.timestampQuery") === true);
  });
}

function checkRow(name: string, row: unknown, timestamps: boolean): void {
  check(at(row, "status") === "ok", `${name} is ${JSON.stringify(row)}`);
  checkTypes(row, ROW, name);
  const samples = at(row, "samples");
  check(Array.isArray(samples) && samples.length > 0 && samples.every((sample) => Number(sample) > 0), `${name} has no samples`);
  check(Number(at(row, "value")) > 0, `the value of ${name} is ${JSON.stringify(at(row, "value"))}`);
  if (name !== "16b-wgpu") checkTypes(row, MEASURED, name);
  if (name.startsWith("layer") || name.startsWith("16b") || name.startsWith("tiny"))
    check(typeof at(row, "encodeMs") === "number", `nobody timed how ${name} is encoded`);
  // The other engine may have timestamps where this one has none.
  if (!timestamps || name === "16b-wgpu") return;
  const kernels = at(row, "gpuTimes.kernels");
  check(Array.isArray(kernels) && kernels.length > 0, `${name} has no times by kernel`);
  const nameless: unknown = kernels.find((kernel: unknown) => !String(at(kernel, "shader")).endsWith(".wgsl"));
  check(nameless === undefined, `${name} has a kernel without a shader: ${JSON.stringify(nameless)}`);
  const dispatches = kernels.reduce((sum: number, kernel: unknown) => sum + Number(at(kernel, "dispatches")), 0);
  check(dispatches === at(row, "work.dispatches"), `the kernels of ${name} have ${dispatches} dispatches together`);
}

function checkTrace(trace: unknown, timestamps: boolean): void {
  const events = at(trace, "traceEvents");
  check(Array.isArray(events), "the trace has no events");
  if (!timestamps) return;
  const slices: unknown[] = events.filter((event: unknown) => at(event, "ph") === "X");
  check(slices.length > 50, `the trace has ${slices.length} slices`);
  for (const slice of slices)
    for (const name of ["ts", "dur", "pid", "args.bytes", "args.flops"])
      check(Number.isFinite(at(slice, name)), `${name} of ${JSON.stringify(slice)} is no number`);
}

async function printsTable(webgpu: DenoEngine): Promise<void> {
  const { output } = await bench(webgpu, "--only", "down, layer-decode");
  for (const part of ["ceiling", "down", "layer-decode", "Verified before it was timed", "few tokens against many"])
    check(output.includes(part), `there is no '${part}' in:\n${output}`);
  for (const part of ["gate-up", "16b-", "tiny-decode"]) check(!output.includes(part), `there is '${part}' in:\n${output}`);
}

async function refusesOthers(webgpu: DenoEngine): Promise<void> {
  const wrong: readonly (readonly [readonly string[], string])[] = [
    [["--suite", "gpu", "--only", "gate-up,nothing"], "Cannot measure 'nothing', expected one of ceiling, gate-up"],
    [["--suite", "gpu", "--mode", "w8a8"], "Cannot use '--mode' with '--suite gpu'"],
    [["--suite", "kernels", "--trace", "x.json"], "Cannot use '--trace' with '--suite kernels'"],
    [["--only", "head"], "Cannot use '--only' with '--suite quick'"],
  ];
  for (const [args, message] of wrong) {
    const { code, stderr, stdout } = await shoal(["bench", ...on(webgpu), ...args]);
    check(code === 2 && stderr.includes(message) && stdout === "", `'${args.join(" ")}' ended with ${code}: ${stderr}`);
  }
}

async function endsByCtrlC(webgpu: DenoEngine): Promise<void> {
  const interruptWhen = ({ stderr }: { readonly stderr: string }): boolean => stderr.includes("Bench: layer-decode, verifying");
  const { code, stdout } = await shoal(["bench", ...on(webgpu), "--suite", "gpu", "--only", "layer-decode"], { interruptWhen });
  check(code === 130 && stdout === "", `it ended with ${code} and printed '${stdout}'`);
}

async function bench(webgpu: DenoEngine, ...args: string[]): Promise<FakeTerminal> {
  const { command, values, words } = parseCommandLine(["bench", "--suite", "gpu", "--webgpu", webgpu, ...args], COMMANDS);
  const terminal = new FakeTerminal({});
  const code = await command?.run({ values, words, terminal, interrupts: new Interrupts(() => {}) });
  check(code === 0, `it ended with ${code}:\n${terminal.errors}`);
  return terminal;
}
