/** `shoal inspect`: what a checkpoint is, and what a run of it takes, without loading it. */
import { type CheckpointSummary, type ModelConfig, type TensorKind, summarize } from "@shoal/checkpoint";
import type { Command, Invocation } from "../command.ts";
import { EXIT } from "../exitCodes.ts";
import { formatBytes, formatCount, formatLimit, formatParameters, formatTable } from "../format.ts";
import type { GpuClient } from "../gpu/client.ts";
import type { DeviceReport, LoadRequest, Requirements } from "../gpu/protocol.ts";
import { adapterLine, deviceRequest, withGpu } from "../gpu/session.ts";
import { type OpenModel, openModel } from "../model/openModel.ts";
import { loadOptions } from "../model/runOptions.ts";
import { DEVICE, MODEL, RUN } from "../options.ts";

export const inspectCommand: Command = {
  name: "inspect",
  summary: "show a model's config and tensors, the memory a run needs, and whether it fits this adapter",
  arguments: "[MODEL]",
  maxWords: 1,
  options: ["tensors", "json", "mtp", ...MODEL, ...RUN, ...DEVICE],
  run: runInspect,
};

interface Fit {
  readonly requirements: Requirements;
  /** Null where no device could be opened; `problem` says why. */
  readonly device: DeviceReport | null;
  readonly problem: string | null;
}

const KINDS: Readonly<Record<TensorKind, string>> = {
  embedding: "embedding",
  attention: "attention",
  denseMlp: "dense MLPs",
  routedExperts: "routed experts",
  sharedExperts: "shared experts",
  router: "routers",
  norms: "norms",
  head: "head",
  mtp: "MTP modules",
  scales: "FP8 scales",
  other: "no part of the model",
};

async function runInspect(invocation: Invocation): Promise<number> {
  const { values, words, terminal, interrupts } = invocation;
  const model = await openModel(values, interrupts.signal, words[0]);
  const { config, tensors } = model.checkpoint;
  await model.checkpoint.close();
  const summary = summarize(config, tensors.tensors);
  const load: LoadRequest = {
    location: model.location,
    config: model.configOverride,
    ...(await loadOptions(values, config)),
    mtp: values.mtp === true,
  };
  const fit = await withGpu((client) => fitOf(client, invocation, load));
  const listed = values.tensors === true ? [...tensors.tensors.values()] : [];
  if (values.json === true) {
    const { requirements, device, problem } = fit;
    const tensorList = listed.map(({ name, dtype, shape, byteLength, file }) => ({ name, dtype, shape, byteLength, file }));
    const report = {
      model: model.name,
      location: model.checkpoint.location,
      layout: model.checkpoint.layout,
      config,
      summary,
      warnings: model.warnings,
      run: { mode: load.mode, kv: load.kvFormat, context: load.contextTokens, mtp: load.mtp },
      requirements,
      device,
      problem,
      ...(values.tensors === true && { tensors: tensorList }),
    };
    terminal.out(`${JSON.stringify(report, null, 2)}\n`);
    return EXIT.ok;
  }
  terminal.out(describeModel(model, config, summary));
  terminal.out(describeRun(load, fit));
  const rows = listed.map(({ name, dtype, shape, byteLength }) => [name, dtype, JSON.stringify(shape), formatBytes(byteLength)]);
  if (rows.length > 0) terminal.out(`\n${formatTable(rows)}`);
  return EXIT.ok;
}

/** A machine without a GPU can still be told what the model needs. */
async function fitOf(client: GpuClient, { values, interrupts }: Invocation, load: LoadRequest): Promise<Fit> {
  const { signal } = interrupts;
  let device: DeviceReport | null = null;
  let problem: string | null = null;
  try {
    device = await client.open(deviceRequest(values), signal);
  } catch (error) {
    signal.throwIfAborted();
    problem = error instanceof Error ? error.message : String(error);
  }
  return { requirements: await client.requirements(load, signal), device, problem };
}

function describeModel({ name, checkpoint, warnings }: OpenModel, config: ModelConfig, summary: CheckpointSummary): string {
  const { parameters, bytesByKind } = summary;
  const moe = config.nLayers - config.nDenseLayers;
  const heads = `${config.nHeads} heads of ${config.qkNopeHeadDim} + ${config.qkRopeHeadDim} (values ${config.vHeadDim})`;
  const groups = config.nExpertGroups > 1 ? `, from ${config.topkGroup} of ${config.nExpertGroups} groups` : "";
  const rows = [
    ["Model", name],
    ["Location", checkpoint.location],
    ["Type", `${config.modelType}, ${checkpoint.layout} layout${config.quantization ? ", FP8 weights in blocks of 128x128" : ""}`],
    [
      "Layers",
      `${config.nLayers}: ${config.nDenseLayers} dense, ${moe} with experts${config.nMtpLayers > 0 ? `; ${config.nMtpLayers} MTP module` : ""}`,
    ],
    ["Hidden", `${config.hiddenSize}, vocabulary ${formatCount(config.vocabSize)}, positions ${formatCount(config.maxPositionEmbeddings)}`],
    ["Attention", `${heads}, latent ${config.kvLoraRank}, query rank ${config.qLoraRank === 0 ? "full" : config.qLoraRank}`],
    [
      "Experts",
      `${config.nRoutedExperts} routed, ${config.nActivatedExperts} for each token${groups}; ${config.nSharedExperts} shared; ${config.scoreFunc} scores`,
    ],
    [
      "Parameters",
      `${formatParameters(parameters.main)}, ${formatParameters(parameters.activePerToken)} used by each token${parameters.mtp > 0 ? `; MTP ${formatParameters(parameters.mtp)}` : ""}`,
    ],
    ["Tensors", `${formatCount(summary.tensorCount)}, ${formatBytes(summary.totalBytes)}`],
  ];
  const kinds = Object.entries(bytesByKind)
    .filter(([, bytes]) => bytes > 0)
    .sort(([, a], [, b]) => b - a)
    .map(([kind, bytes]) => [`  ${KINDS[kind as TensorKind]}`, formatBytes(bytes)]);
  return formatTable(rows) + formatTable(kinds) + warnings.map((warning) => `Warning: ${warning}\n`).join("");
}

function describeRun(load: LoadRequest, { requirements, device, problem }: Fit): string {
  const { weights, kvCache, activations, total, refusal } = requirements;
  const rows = [
    ["  weights", formatBytes(weights)],
    [`  KV cache, ${load.kvFormat}`, formatBytes(kvCache)],
    ["  activations", formatBytes(activations)],
    ["  together", formatBytes(total)],
  ];
  const head = `\nA run with a context of ${formatCount(load.contextTokens)} tokens takes, on the device:\n${formatTable(rows)}\n`;
  if (!device) return `${head}This machine: ${problem ?? "no adapter"}\n`;
  const binding = formatLimit(device.limits["maxStorageBufferBindingSize"] ?? 0);
  const verdict =
    refusal ?? `It fits the adapter's limits (one binding may have ${binding}); WebGPU does not tell how much memory there is.`;
  return `${head}Adapter: ${adapterLine(device)}\n${verdict}\n`;
}
