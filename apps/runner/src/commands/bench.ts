/** `shoal bench`: verifies a model, then measures it. Progress goes to standard error, the table or the JSON to standard output. */
import { summarize } from "@shoal/checkpoint";
import { GPU_ROWS, type KernelBenchResult, benchContextTokens } from "@shoal/model/bench";
import type { Command, Invocation } from "../command.ts";
import { runGpuSuite } from "../bench/gpuSuite.ts";
import { DEFAULT_PROMPT, EMBEDDED_ANSWER, knownPrompt } from "../bench/knownPrompt.ts";
import { type KernelsReport, type QuickReport, kernelsTable, quickTable, reportHead } from "../bench/report.ts";
import { UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import type { BenchRequest } from "../gpu/protocol.ts";
import { adapterLine, deviceRequest, startModel, withGpu } from "../gpu/session.ts";
import { type OpenModel, openModel, tokenizerOf } from "../model/openModel.ts";
import { DEVICE, MODEL, type OptionName, type Values } from "../options.ts";

const DEFAULT_PROMPT_TOKENS = 128;
const DEFAULT_NEW_TOKENS = 64;
const DEFAULT_REPEAT = 3;

/** Options that the kernels' suite has no use for. */
const MODEL_ONLY = [
  "prompt-tokens",
  "new-tokens",
  "repeat",
  "prompt",
  "expect",
  "chunk",
  "mode",
  "kv",
  ...MODEL,
] as const satisfies OptionName[];

export const benchCommand: Command = {
  name: "bench",
  summary: "verify a model, then measure prefill, decode, single steps and kernels",
  arguments: "",
  maxWords: 0,
  options: ["suite", "only", "trace", "json", ...MODEL_ONLY, ...DEVICE],
  notes: [
    "First the greedy answer to a prompt must be what prefill alone gives for the same tokens; for the embedded model it must also be the right",
    "one, and for others what --expect says. The prompt is then repeated to --prompt-tokens for what is timed.",
    "--suite kernels times each kernel by itself, on random weights of DeepSeek-V3's shapes (small ones on software adapters).",
    `--suite gpu compares with what this device can do: ${GPU_ROWS.join(", ")}.`,
    "Its models are random weights of the published shapes, made in memory; it takes minutes and 20 GB of device memory, and skips what does not fit.",
  ],
  run: runBench,
};

async function runBench(invocation: Invocation): Promise<number> {
  const { values } = invocation;
  switch (values.suite ?? "quick") {
    case "quick":
      refuseOptions(values, ["only", "trace"], "it measures one model");
      return runQuick(invocation);
    case "kernels":
      refuseOptions(values, [...MODEL_ONLY, "trace"], "it loads no model");
      return runKernels(invocation);
    case "gpu":
      refuseOptions(values, MODEL_ONLY, "its models are its own");
      return runGpuSuite(invocation, namesOf(values.only));
  }
}

async function runKernels({ values, terminal, interrupts }: Invocation): Promise<number> {
  const ops = namesOf(values.only);
  return withGpu(async (client) => {
    const device = await client.open(deviceRequest(values), interrupts.signal);
    terminal.err(`Adapter: ${adapterLine(device)}\n`);
    const size = device.adapter.isSoftware ? "small" : "full";
    const onResult = ({ op, name }: KernelBenchResult): void => terminal.err(`Bench: ${op}, ${name}\n`);
    const results = await client.benchKernels({ size, ...(ops && { ops }) }, onResult, interrupts.signal);
    const unknown = ops?.find((op) => !results.some((result) => result.op === op));
    if (unknown !== undefined) throw new UsageError(`Cannot measure '${unknown}': the suite has no kernel of that name`, "bench");
    const report: KernelsReport = { ...reportHead(device), suite: "kernels", size, results };
    terminal.out(values.json === true ? `${JSON.stringify(report, null, 2)}\n` : kernelsTable(report));
    return EXIT.ok;
  });
}

/** @throws UsageError for an option that a suite has no use for. */
function refuseOptions(values: Values, names: readonly OptionName[], why: string): void {
  const odd = names.find((name) => values[name] !== undefined);
  if (odd !== undefined) throw new UsageError(`Cannot use '--${odd}' with '--suite ${values.suite ?? "quick"}': ${why}`, "bench");
}

function namesOf(only: string | undefined): readonly string[] | undefined {
  return only?.split(",").map((name) => name.trim());
}

async function runQuick(invocation: Invocation): Promise<number> {
  const { values, terminal, interrupts } = invocation;
  return withGpu(async (client) => {
    const started = await startModel(client, invocation, async () => {
      const model = await openModel(values, interrupts.signal);
      const request = benchRequest(values, model);
      const context = benchContextTokens(request);
      const { maxPositionEmbeddings } = model.checkpoint.config;
      if (context > maxPositionEmbeddings)
        throw new UsageError(
          `Cannot measure ${context} tokens: the model has ${maxPositionEmbeddings} positions, expected at most as many`,
          "bench",
        );
      const load = {
        mode: request.mode,
        kvFormat: values.kv ?? "f16",
        contextTokens: context,
        ...(values.chunk !== undefined && { maxTokens: Math.min(values.chunk, context) }),
      } as const;
      return { model, load, request };
    });
    const { model, load, request, device, stage, loaded } = started;
    for (const warning of model.warnings) terminal.err(`Warning: ${warning}\n`);
    const result = await client.bench(request, (what) => terminal.err(`Bench: ${what}\n`), interrupts.signal);
    const { parameters } = summarize(model.checkpoint.config, model.checkpoint.tensors.tensors);
    const report: QuickReport = {
      ...reportHead(device),
      suite: "quick",
      model: {
        name: model.name,
        layers: model.checkpoint.config.nLayers,
        parameters: parameters.main,
        activeParameters: parameters.activePerToken,
      },
      options: {
        mode: request.mode,
        kv: load.kvFormat,
        promptTokens: request.promptTokens,
        newTokens: request.newTokens,
        repeat: request.repeat,
        chunkTokens: stage.maxTokens,
      },
      answer: model.checkpoint.tokenizerJson === null ? null : tokenizerOf(model).decode(result.verification.greedyIds),
      loadSeconds: loaded.seconds,
      loadBytes: loaded.bytes,
      ...result,
    };
    terminal.out(values.json === true ? `${JSON.stringify(report, null, 2)}\n` : quickTable(report));
    return EXIT.ok;
  });
}

function benchRequest(values: Values, model: OpenModel): BenchRequest {
  const isEmbedded = values.model === undefined && values["ckpt-path"] === undefined;
  const promptText = values.prompt ?? DEFAULT_PROMPT;
  const expected = values.expect ?? (isEmbedded && values.prompt === undefined ? EMBEDDED_ANSWER : undefined);
  const { promptIds, expectedIds } = knownPrompt(model, promptText, expected);
  return {
    mode: values.mode ?? "w8a32",
    promptIds,
    expectedIds,
    promptTokens: values["prompt-tokens"] ?? DEFAULT_PROMPT_TOKENS,
    newTokens: values["new-tokens"] ?? DEFAULT_NEW_TOKENS,
    repeat: values.repeat ?? DEFAULT_REPEAT,
  };
}
