/** A whole model of DeepSeek-V2-Lite's shape: decoding for one sequence and for many, prefill. Timed as the engine drives it, tokens read back in batches. */
import { isShortContext } from "@shoal/kernels";
import { seededRandom } from "@shoal/kernels/testing";
import { DECODE_TOKENS } from "../../activations.ts";
import type { SequenceSlot } from "../../kvCache.ts";
import type { LocalStage } from "../../localStage.ts";
import type { StepShape } from "../../programs.ts";
import { BenchError } from "../errors.ts";
import { READ_STEPS } from "../run.ts";
import { encodeTime } from "../stepCost.ts";
import { agreementText, checkRows } from "./compare.ts";
import type { GpuRowName } from "./rows.ts";
import type { Measured, Run } from "./run.ts";
import { type LoadedStage, stageRows } from "./stageRows.ts";
import { syntheticCheckpoint } from "./synthetic.ts";
import { profileStep, warmSteps } from "./timing.ts";
import { stepWork } from "./work.ts";

/** More than go through the kernels for few tokens. */
const COMPARED_TOKENS = DECODE_TOKENS + 8;
/** Prompts of so many lengths, the longest of them the timed one, of which the last logits are compared. */
const COMPARED_PROMPTS = 8;
const KV_FORMAT = "f16";
const PROFILES = 3;
/** Of the prompts that come before a batch's compared step. */
const SHORT_PROMPT = 8;

export async function modelRows(run: Run): Promise<void> {
  const { title, config, promptTokens, decodedTokens, sequences, prefillTokens } = run.shapes.model;
  const each = promptTokens + run.shapes.warmUpTokens + decodedTokens + READ_STEPS;
  const options = {
    // Blocks of the cache are shared by all sequences.
    contextTokens: Math.max(sequences * (each + 32), prefillTokens + COMPARED_TOKENS),
    maxSequences: sequences,
    maxTokens: Math.max(prefillTokens, sequences),
    maxOutputs: Math.max(sequences, COMPARED_TOKENS),
    kvFormat: KV_FORMAT,
  } as const;
  const what = `${title}, fp8`;
  await stageRows(run, { checkpoint: async () => syntheticCheckpoint(config, title), options }, [
    {
      name: "16b-decode",
      what: `${what}, 1 token a step after ${promptTokens}`,
      many: false,
      measure: (loaded) =>
        inSequences(loaded, 1, (slots) => decodeRow(run, loaded, slots, "16b-decode", () => compareTokens(run, loaded, slots))),
    },
    {
      name: "16b-decode-32",
      what: `${what}, ${sequences} sequences, 1 token of each a step after ${promptTokens}`,
      many: true,
      measure: (loaded) =>
        inSequences(loaded, sequences, (slots) => decodeRow(run, loaded, slots, "16b-decode-32", () => compareBatch(run, loaded, slots))),
    },
    {
      name: "16b-prefill",
      what: `${what}, ${prefillTokens} tokens in one step`,
      many: true,
      both: true,
      measure: (loaded) => inSequences(loaded, 1, (slots) => prefillRow(run, loaded, slots)),
    },
  ]);
}

async function inSequences<T>({ stage }: LoadedStage, count: number, work: (sequences: readonly SequenceSlot[]) => Promise<T>): Promise<T> {
  const sequences: SequenceSlot[] = [];
  try {
    for (let i = 0; i < count; i++) sequences.push(await stage.open());
    return await work(sequences);
  } finally {
    for (const sequence of sequences) await stage.close(sequence);
  }
}

async function decodeRow(
  run: Run,
  loaded: LoadedStage,
  sequences: readonly SequenceSlot[],
  name: GpuRowName,
  verify: () => Promise<string>,
): Promise<Measured> {
  const { stage } = loaded;
  const { model, samples, warmUpTokens } = run.shapes;
  const { promptTokens, decodedTokens } = model;
  run.phase(name, "verifying");
  const verified = await verify();
  run.phase(name, "timing");
  for (const [index, sequence] of sequences.entries()) {
    await stage.truncate(sequence, 0);
    await stage.forward({ entries: [{ sequence, tokens: randomIds(stage, 100 + index, promptTokens) }], output: "sample" });
  }
  await decodeSteps(run, stage, sequences, warmUpTokens);
  const before = promptTokens + warmUpTokens;
  const sample = async (): Promise<number> => {
    for (const sequence of sequences) await stage.truncate(sequence, before);
    const begin = performance.now();
    await decodeSteps(run, stage, sequences, decodedTokens);
    return (performance.now() - begin) / decodedTokens;
  };
  await warmSteps(stage.gpu, sample, run.signal);
  const stepMs: number[] = [];
  for (let i = 0; i < samples; i++) stepMs.push(await sample());
  const position = before + (decodedTokens >> 1);
  for (const sequence of sequences) await stage.truncate(sequence, position);
  const entries = sequences.map((sequence) => ({ sequence, tokens: "sampled" as const }));
  const { routing = [] } = await stage.forward({ entries, output: "sample", capture: { routing: true } });
  const tokens = sequences.length;
  const shape = {
    kind: "forward",
    tokens,
    outputs: tokens,
    identity: true,
    choose: "greedy",
    capture: "nothing",
    short: shortSteps(sequences, position),
  } as const;
  const cached = sequences.map(() => ({ before: position, tokens: 1 }));
  return { stepMs, verified, ...(await stepDetails(loaded, shape, cached, routing)) };
}

/** Whether steps of one row each at a position are as short as `forward` makes them. */
function shortSteps(sequences: readonly SequenceSlot[], position: number): boolean {
  return isShortContext({ sequences, positions: sequences.map(() => position) });
}

async function prefillRow(run: Run, loaded: LoadedStage, [sequence]: readonly SequenceSlot[]): Promise<Measured> {
  if (sequence === undefined) throw new RangeError("There is no sequence to prefill");
  const { stage, arithmetic } = loaded;
  const { model, samples } = run.shapes;
  const tokens = model.prefillTokens;
  run.phase("16b-prefill", `verifying, ${arithmetic}`);
  const ids = randomIds(stage, 1, tokens);
  const verified = await comparePrompts(run, loaded, sequence, ids);
  run.phase("16b-prefill", `timing, ${arithmetic}`);
  const once = async (): Promise<number> => {
    run.signal?.throwIfAborted();
    await stage.truncate(sequence, 0);
    const begin = performance.now();
    const { step } = await stage.forward({ entries: [{ sequence, tokens: ids }], output: "sample" });
    await stage.sampled(step, 1);
    return performance.now() - begin;
  };
  await once();
  await once();
  const stepMs: number[] = [];
  for (let i = 0; i < samples; i++) stepMs.push(await once());
  await stage.truncate(sequence, 0);
  const { routing = [] } = await stage.forward({ entries: [{ sequence, tokens: ids }], output: "sample", capture: { routing: true } });
  const shape = {
    kind: "forward",
    tokens,
    outputs: 1,
    identity: tokens === 1,
    choose: "greedy",
    capture: "nothing",
    short: false,
  } as const;
  return { stepMs, verified, ...(await stepDetails(loaded, shape, [{ before: 0, tokens }], routing)) };
}

async function stepDetails(
  { stage, checkpoint }: LoadedStage,
  shape: StepShape,
  sequences: readonly { readonly before: number; readonly tokens: number }[],
  routing: Parameters<typeof stepWork>[1]["routing"],
): Promise<Omit<Measured, "stepMs" | "verified">> {
  const commands = await stage.program(shape);
  const { tokens, outputs } = shape;
  const { layers: range } = await stage.describe();
  const dispatches = commands.filter((command) => "pipeline" in command).length;
  const work = stepWork(checkpoint, { range, tokens, outputs, sequences, kvFormat: KV_FORMAT, routing, dispatches });
  return { work, encodeMs: encodeTime(stage.gpu, commands), ...(await profileStep(stage.gpu, commands, PROFILES)) };
}

/** Steps that each take what the last one sampled; tokens come back in batches, two of them on their way. */
async function decodeSteps(run: Run, stage: LocalStage, sequences: readonly SequenceSlot[], steps: number): Promise<void> {
  const entries = sequences.map((sequence) => ({ sequence, tokens: "sampled" as const }));
  const reads: Promise<unknown>[] = [];
  for (let done = 0; done < steps;) {
    run.signal?.throwIfAborted();
    const count = Math.min(READ_STEPS, steps - done);
    let first = 0;
    for (let i = 0; i < count; i++) {
      const { step } = await stage.forward({ entries, output: "sample" });
      if (i === 0) first = step;
    }
    done += count;
    const read = stage.sampled(first, count);
    // Awaited in order below; a failure of a later one must not count as unhandled until then.
    read.catch(() => {});
    reads.push(read);
    if (reads.length === 2) await reads.shift();
  }
  for (const read of reads) await read;
}

/** The same tokens one at a time and in one step. */
async function compareTokens(run: Run, { stage, arithmetic }: LoadedStage, [sequence]: readonly SequenceSlot[]): Promise<string> {
  if (sequence === undefined) throw new RangeError("There is no sequence to compare");
  const { promptTokens } = run.shapes.model;
  const ids = randomIds(stage, 1, promptTokens + COMPARED_TOKENS);
  await stage.forward({ entries: [{ sequence, tokens: ids.slice(0, promptTokens) }], output: "none" });
  const few = await oneByOne(run, stage, sequence, ids.slice(promptTokens));
  await stage.truncate(sequence, promptTokens);
  const { logits: many = new Float32Array() } = await stage.forward({
    entries: [{ sequence, tokens: ids.slice(promptTokens) }],
    output: "allLogits",
  });
  return agreementText("logits", checkRows("logits", few, many, stage.config.vocabSize, arithmetic));
}

/** A step of all sequences, and the same tokens each in a step of its own. */
async function compareBatch(run: Run, { stage, arithmetic }: LoadedStage, sequences: readonly SequenceSlot[]): Promise<string> {
  const { vocabSize } = stage.config;
  const prompts = sequences.map((sequence, index) => ({ sequence, ids: randomIds(stage, 200 + index, SHORT_PROMPT + 1) }));
  for (const { sequence, ids } of prompts)
    await stage.forward({ entries: [{ sequence, tokens: ids.slice(0, SHORT_PROMPT) }], output: "none" });
  const entries = prompts.map(({ sequence, ids }) => ({ sequence, tokens: ids.slice(SHORT_PROMPT) }));
  const { logits: many = new Float32Array() } = await stage.forward({ entries, output: "lastLogits" });
  const few = new Float32Array(entries.length * vocabSize);
  for (const [index, { sequence, tokens }] of entries.entries()) {
    await stage.truncate(sequence, SHORT_PROMPT);
    few.set(await oneByOne(run, stage, sequence, tokens), index * vocabSize);
  }
  return agreementText("logits", checkRows("logits", few, many, vocabSize, arithmetic));
}

/** The last logits of prompts of several lengths in one step each, and of the same tokens a few at a time; and that the device samples the largest of them. */
async function comparePrompts(
  run: Run,
  { stage, arithmetic }: LoadedStage,
  sequence: SequenceSlot,
  ids: readonly number[],
): Promise<string> {
  const { vocabSize } = stage.config;
  const count = Math.min(COMPARED_PROMPTS, ids.length - 1);
  const first = ids.length - count;
  const many = new Float32Array(count * vocabSize);
  for (let i = 0; i < count; i++) {
    run.signal?.throwIfAborted();
    await stage.truncate(sequence, 0);
    const { logits } = await stage.forward({ entries: [{ sequence, tokens: ids.slice(0, first + i + 1) }], output: "lastLogits" });
    many.set(logits ?? [], i * vocabSize);
  }
  await stage.truncate(sequence, 0);
  const { step } = await stage.forward({ entries: [{ sequence, tokens: ids }], output: "sample" });
  const [[sampled = -1] = []] = await stage.sampled(step, 1);
  const last = many.subarray((count - 1) * vocabSize);
  const best = last.indexOf(last.reduce((a, b) => Math.max(a, b)));
  if (sampled !== best)
    throw new BenchError(
      "not-reproducible",
      `Cannot measure: the step sampled token ${sampled}, expected ${best}, whose logit is the largest`,
    );
  await stage.truncate(sequence, 0);
  for (let start = 0; start < first; start += DECODE_TOKENS) {
    run.signal?.throwIfAborted();
    await stage.forward({ entries: [{ sequence, tokens: ids.slice(start, Math.min(start + DECODE_TOKENS, first)) }], output: "none" });
  }
  const few = await oneByOne(run, stage, sequence, ids.slice(first));
  return agreementText("logits", checkRows("logits", few, many, vocabSize, arithmetic));
}

/** Logits after each of some tokens, a step each. */
async function oneByOne(run: Run, stage: LocalStage, sequence: SequenceSlot, ids: readonly number[]): Promise<Float32Array> {
  const { vocabSize } = stage.config;
  const out = new Float32Array(ids.length * vocabSize);
  for (const [index, id] of ids.entries()) {
    run.signal?.throwIfAborted();
    const { logits } = await stage.forward({ entries: [{ sequence, tokens: [id] }], output: "lastLogits" });
    out.set(logits ?? [], index * vocabSize);
  }
  return out;
}

function randomIds({ config }: LocalStage, seed: number, count: number): readonly number[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, () => random.integer(config.vocabSize));
}
