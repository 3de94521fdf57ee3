/** `shoal bench` with sizes as small as can be: what it prints and refuses. How fast anything is depends on the machine, and is no matter of tests. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { parseCommandLine } from "../src/args.ts";
import { COMMANDS } from "../src/commands/mod.ts";
import { Interrupts } from "../src/interrupts.ts";
import { FakeTerminal } from "./fakeTerminal.ts";
import { at, check, checkTypes } from "./reports.ts";

const SMALL = ["--prompt-tokens", "9", "--new-tokens", "4", "--repeat", "1"];

/** What the JSON is made of: each name with the type that its value must have. */
const SHAPE = {
  format: "number",
  suite: "string",
  version: "string",
  date: "string",
  "machine.deno": "string",
  "machine.cpus": "number",
  engine: "string",
  "adapter.isSoftware": "boolean",
  "dialect.timestampQuery": "boolean",
  "model.name": "string",
  "model.parameters": "number",
  "options.mode": "string",
  "options.promptTokens": "number",
  answer: "string",
  "verification.comparedTokens": "number",
  "verification.knownAnswer": "boolean",
  "prefill.tokensPerSecond": "number",
  "prefill.step.dispatches": "number",
  "decode.tokensPerSecond": "number",
  "decode.step.dispatches": "number",
  "decode.step.bytes": "number",
  "decode.step.kvCacheBytes": "number",
  "decode.step.encodeMs": "number",
  "decode.submitMs": "number",
  "decode.bytesPerSecond": "number",
  "decode.shareOfCopy": "number",
  "bandwidth.copyBytesPerSecond": "number",
  "bandwidth.readBytesPerSecond": "number",
  "memory.weights": "number",
  loadSeconds: "number",
  loadBytes: "number",
} as const;

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> }[]> {
  return [
    { name: "shoal bench --json prints what it measured, verified", run: () => printsJson(webgpu) },
    { name: "shoal bench prints a table", run: () => printsTable(webgpu) },
    { name: "shoal bench --suite kernels --json prints what each kernel reaches", run: () => printsKernels(webgpu) },
    { name: "shoal bench measures nothing when the answer is not the expected one", run: () => refusesWrongAnswer(webgpu) },
    { name: "shoal bench refuses more tokens than the model has positions", run: () => refusesLongPrompt(webgpu) },
  ];
}

async function printsJson(webgpu: DenoEngine): Promise<void> {
  const { output, errors } = await bench("--webgpu", webgpu, "--json", ...SMALL);
  const report: unknown = JSON.parse(output);
  checkTypes(report, SHAPE, "the report");
  check(webgpu === "auto" || at(report, "engine") === webgpu, `engine is ${JSON.stringify(at(report, "engine"))}, expected ${webgpu}`);
  check(String(at(report, "answer")).startsWith("The capital of France is Paris."), "the answer is another");
  check(at(report, "verification.knownAnswer") === true, "the answer was not compared with the known one");
  check(errors.includes("verifying"), "standard error does not say what is going on");
  for (const kind of ["prefill", "decode"]) {
    if (at(report, "dialect.timestampQuery") !== true) check(at(report, `${kind}.gpuTimes`) === null, "GPU times without timestamps");
    else checkKernels(report, kind);
  }
}

/** Every dispatch of the step is in the table, and the shares are shares. */
function checkKernels(report: unknown, kind: string): void {
  const kernels = at(report, `${kind}.gpuTimes.kernels`);
  check(Array.isArray(kernels) && kernels.length > 5, `${kind} has no table of kernels`);
  const sum = (name: string): number => kernels.reduce((total: number, kernel: unknown) => total + Number(at(kernel, name)), 0);
  check(
    sum("dispatches") === at(report, `${kind}.step.dispatches`),
    `the kernels of ${kind} have ${sum("dispatches")} dispatches together`,
  );
  check(Math.abs(sum("share") - 1) < 1e-6, `the shares of ${kind} add up to ${sum("share")}`);
}

async function printsTable(webgpu: DenoEngine): Promise<void> {
  const { output } = await bench("--webgpu", webgpu, "--prompt", "What is the capital of Peru?", "--mode", "w8a8", ...SMALL);
  for (const part of ["Verified", "prefill of 9", "decode of 4", "dispatches", "of a copy", "GPU time of a decode step"])
    check(output.includes(part), `there is no '${part}' in:\n${output}`);
}

async function printsKernels(webgpu: DenoEngine): Promise<void> {
  const report: unknown = JSON.parse((await bench("--webgpu", webgpu, "--suite", "kernels", "--json")).output);
  check(at(report, "suite") === "kernels" && typeof at(report, "engine") === "string", "it has no head");
  const results = at(report, "results");
  check(Array.isArray(results) && results.length > 5, "there are no results");
  for (const result of results)
    for (const name of ["ms", "bytes", "gbPerS", "shareOfCopy"])
      check(Number(at(result, name)) > 0, `${name} of ${JSON.stringify(at(result, "op"))} is ${JSON.stringify(at(result, name))}`);
}

async function refusesWrongAnswer(webgpu: DenoEngine): Promise<void> {
  await refuses(
    ["--webgpu", webgpu, "--expect", "The capital of France is Lyon.", ...SMALL],
    "Cannot measure: token 5 of the greedy answer is",
  );
}

async function refusesLongPrompt(webgpu: DenoEngine): Promise<void> {
  await refuses(["--webgpu", webgpu, "--prompt-tokens", "2048"], "the model has 2048 positions");
}

async function refuses(args: readonly string[], message: string): Promise<void> {
  let refusal = "";
  try {
    const { output } = await bench(...args);
    refusal = `printed ${output}`;
  } catch (error) {
    refusal = error instanceof Error ? error.message : String(error);
  }
  check(refusal.includes(message), `it ${refusal}, expected '${message}'`);
}

async function bench(...args: string[]): Promise<FakeTerminal> {
  const { command, values, words } = parseCommandLine(["bench", ...args], COMMANDS);
  const terminal = new FakeTerminal({});
  const code = await command?.run({ values, words, terminal, interrupts: new Interrupts(() => {}) });
  check(code === 0, `it ended with ${code}`);
  return terminal;
}
