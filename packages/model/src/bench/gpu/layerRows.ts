/**
 * One MoE layer by itself, as it would be among others of a large model: hidden states are on the device already, and what is timed is the layer's dispatches, run
 * after run, encoded while the device works.
 */
import type { Command } from "@shoal/gpu";
import { isShortContext } from "@shoal/kernels";
import { normals, numberToF16, seededRandom } from "@shoal/kernels/testing";
import { DECODE_TOKENS } from "../../activations.ts";
import type { SequenceSlot } from "../../kvCache.ts";
import type { LocalStage } from "../../localStage.ts";
import type { RoutingCapture } from "../../stage.ts";
import { encodeTime } from "../stepCost.ts";
import { agreementText, checkRows } from "./compare.ts";
import type { Measured, Run } from "./run.ts";
import { type LoadedStage, stageRows } from "./stageRows.ts";
import { syntheticCheckpoint } from "./synthetic.ts";
import { profileStep, timeCommands } from "./timing.ts";
import { stepWork } from "./work.ts";

/** More than go through the kernels for few tokens. */
const COMPARED_TOKENS = DECODE_TOKENS + 8;
const KV_FORMAT = "f16";
const PROFILES = 5;

export async function layerRows(run: Run): Promise<void> {
  const { title, config, range, shortContext, longContext, prefillTokens } = run.shapes.layer;
  const options = {
    layers: range,
    contextTokens: longContext + COMPARED_TOKENS,
    maxTokens: Math.max(prefillTokens, shortContext),
    kvFormat: KV_FORMAT,
  } as const;
  const rows = Math.max(prefillTokens, shortContext + COMPARED_TOKENS);
  const inputs = new Inputs(config.hiddenSize, rows);
  await stageRows(run, { checkpoint: async () => syntheticCheckpoint(config, title), options }, [
    {
      name: "layer-decode",
      what: `${title}, 1 token after ${shortContext}`,
      many: false,
      measure: (loaded) => inOneSequence(loaded, (sequence) => decodeLayer(run, loaded, sequence, inputs, "layer-decode")),
    },
    {
      name: "layer-32k",
      what: `${title}, 1 token after ${longContext} in a cache of random values`,
      many: false,
      measure: (loaded) => inOneSequence(loaded, (sequence) => decodeLayer(run, loaded, sequence, inputs, "layer-32k")),
    },
    {
      name: "layer-prefill",
      what: `${title}, ${prefillTokens} tokens`,
      many: true,
      both: true,
      measure: (loaded) => inOneSequence(loaded, (sequence) => prefillLayer(run, loaded, sequence, inputs)),
    },
  ]);
}

/** Random hidden states [rows, hidden], made when first asked for. */
class Inputs {
  readonly hidden: number;
  readonly #rows: number;
  #values: Float32Array<ArrayBuffer> | undefined;

  constructor(hidden: number, rows: number) {
    this.hidden = hidden;
    this.#rows = rows;
  }

  slice(first: number, count: number): Float32Array<ArrayBuffer> {
    this.#values ??= Float32Array.from(normals(seededRandom(2), this.#rows * this.hidden));
    return this.#values.slice(first * this.hidden, (first + count) * this.hidden);
  }
}

async function inOneSequence<T>({ stage }: LoadedStage, work: (sequence: SequenceSlot) => Promise<T>): Promise<T> {
  const sequence = await stage.open();
  try {
    return await work(sequence);
  } finally {
    await stage.close(sequence);
  }
}

async function decodeLayer(
  run: Run,
  loaded: LoadedStage,
  sequence: SequenceSlot,
  inputs: Inputs,
  name: "layer-decode" | "layer-32k",
): Promise<Measured> {
  const { stage, arithmetic } = loaded;
  const { shortContext, longContext } = run.shapes.layer;
  const before = name === "layer-decode" ? shortContext : longContext;
  run.phase(name, "verifying");
  if (name === "layer-decode") await feed(stage, sequence, inputs.slice(0, before), "none");
  else fillCache(stage, sequence, before);
  const compared = inputs.slice(shortContext, COMPARED_TOKENS);
  const few = await added(run, stage, sequence, compared, 1);
  await stage.truncate(sequence, before);
  const many = await added(run, stage, sequence, compared, COMPARED_TOKENS);
  await stage.truncate(sequence, before);
  const agreement = checkRows("what the layer adds", few, many, inputs.hidden, arithmetic);

  run.phase(name, "timing");
  const routing = await feed(stage, sequence, inputs.slice(shortContext, 1), "none");
  const commands = await layerProgram(stage, before, 1);
  return timed(run, loaded, commands, { before, tokens: 1 }, routing, agreementText("a layer's output", agreement));
}

async function prefillLayer(run: Run, loaded: LoadedStage, sequence: SequenceSlot, inputs: Inputs): Promise<Measured> {
  const { stage, arithmetic } = loaded;
  const { prefillTokens: tokens } = run.shapes.layer;
  const { gpu, activations } = stage;
  run.phase("layer-prefill", `verifying, ${arithmetic}`);
  const x = inputs.slice(0, tokens);
  const many = await added(run, stage, sequence, x, tokens);
  await stage.truncate(sequence, 0);
  const few = await added(run, stage, sequence, x, DECODE_TOKENS);
  await stage.truncate(sequence, 0);
  const agreement = checkRows("what the layer adds", few, many, inputs.hidden, arithmetic);

  run.phase("layer-prefill", `timing, ${arithmetic}`);
  const routing = await feed(stage, sequence, x, "none");
  // Every run begins with the same hidden states: what a layer gave would choose its experts less evenly.
  const { residual } = activations;
  const size = tokens * residual.stride * 4;
  const rows = new Float32Array(tokens * residual.stride);
  for (let row = 0; row < tokens; row++) rows.set(x.subarray(row * inputs.hidden, (row + 1) * inputs.hidden), row * residual.stride);
  const saved = gpu.upload("hidden states", rows, "scratch");
  try {
    const restore = { copy: { from: saved, fromOffset: 0, to: residual.buffer, toOffset: 0, size } };
    const commands = [restore, ...(await layerProgram(stage, 0, tokens))];
    return await timed(run, loaded, commands, { before: 0, tokens }, routing, agreementText("a layer's output", agreement));
  } finally {
    gpu.destroyBuffer(saved);
  }
}

async function timed(
  run: Run,
  { stage, checkpoint }: LoadedStage,
  commands: readonly Command[],
  sequence: { readonly before: number; readonly tokens: number },
  routing: readonly RoutingCapture[],
  verified: string,
): Promise<Measured> {
  const { samples, submitMs, layer } = run.shapes;
  const stepMs = await timeCommands(stage.gpu, commands, { samples, submitMs, signal: run.signal });
  const profile = await profileStep(stage.gpu, commands, PROFILES);
  const work = stepWork(checkpoint, {
    range: layer.range,
    tokens: sequence.tokens,
    outputs: 0,
    sequences: [sequence],
    kvFormat: KV_FORMAT,
    routing,
    dispatches: commands.filter((command) => "pipeline" in command).length,
  });
  return { stepMs, work, encodeMs: encodeTime(stage.gpu, commands), verified, ...profile };
}

function layerProgram(stage: LocalStage, before: number, tokens: number): Promise<readonly Command[]> {
  const short = isShortContext({
    sequences: Array.from({ length: tokens }, () => 0),
    positions: Array.from({ length: tokens }, (_, row) => before + row),
  });
  return stage.program({ kind: "forward", tokens, outputs: 0, identity: false, choose: "none", capture: "nothing", short });
}

/** One step that continues the sequence with hidden states. @returns the experts that were chosen */
async function feed(
  stage: LocalStage,
  sequence: SequenceSlot,
  hidden: Float32Array<ArrayBuffer>,
  output: "none",
): Promise<readonly RoutingCapture[]> {
  const tokens = Array.from({ length: hidden.length / stage.config.hiddenSize }, () => 0);
  const { routing = [] } = await stage.forward({ entries: [{ sequence, tokens, hidden }], output, capture: { routing: true } });
  return routing;
}

/** What the layer adds to hidden states that continue the sequence, `perStep` rows a step. */
async function added(
  run: Run,
  stage: LocalStage,
  sequence: SequenceSlot,
  x: Float32Array<ArrayBuffer>,
  perStep: number,
): Promise<Float32Array> {
  const { hiddenSize } = stage.config;
  const out = new Float32Array(x.length);
  for (let start = 0; start < x.length; start += perStep * hiddenSize) {
    run.signal?.throwIfAborted();
    const hidden = x.slice(start, start + perStep * hiddenSize);
    const tokens = Array.from({ length: hidden.length / hiddenSize }, () => 0);
    const step = await stage.forward({ entries: [{ sequence, tokens, hidden }], output: "hidden" });
    out.set(step.hidden ?? [], start);
  }
  return out.map((value, index) => value - (x[index] ?? 0));
}

/** Values of the cache that are written at once. */
const WRITTEN_VALUES = 2 ** 21;

/** As if `tokens` had been computed: latents and rope parts are about normal(0, 1), as the norm leaves them. */
function fillCache({ kv, gpu }: LocalStage, sequence: SequenceSlot, tokens: number): void {
  kv.extend([{ sequence, tokens }]);
  const random = seededRandom(3);
  // A prime number of values: every row of the cache is another one.
  const pattern = Uint16Array.from({ length: 262_139 }, () => numberToF16(random.normal()));
  const values = new Uint16Array(WRITTEN_VALUES);
  for (const { buffer } of kv.layers)
    for (let at = 0, from = 0; at < buffer.size; at += values.byteLength) {
      for (let i = 0; i < values.length; i++, from++) values[i] = pattern[from % pattern.length] ?? 0;
      gpu.write(buffer, at, values.subarray(0, Math.min(values.length, (buffer.size - at) / 2)));
    }
}
