/** Drives a stage as an engine would: prefill in chunks, decode with tokens that stay on the device, MTP drafts beside. */
import { type Dispatch, dispatchesOf } from "@shoal/gpu";
import type { BatchEntry, Capture, LocalStage, SequenceSlot, StepOutput } from "@shoal/model";

export interface PrefillOptions {
  /** Tokens a step; by default as many as the stage allows. */
  readonly chunk?: number;
  /** Also fill the MTP module's KV cache: row i takes the token after it. The last token of `ids` has none, and must not be in `ids`. */
  readonly next?: readonly number[];
}

/** Opens a sequence for `work` and closes it again. */
export async function withSequence<T>(stage: LocalStage, work: (sequence: SequenceSlot) => Promise<T>): Promise<T> {
  const sequence = await stage.open();
  try {
    return await work(sequence);
  } finally {
    await stage.close(sequence);
  }
}

/** Extends the caches by `ids`, and gives nothing back. */
export async function prefill(
  stage: LocalStage,
  sequence: SequenceSlot,
  ids: readonly number[],
  options: PrefillOptions = {},
): Promise<void> {
  for (const { begin, tokens } of await chunks(stage, ids, options.chunk)) {
    await stage.forward({ entries: [{ sequence, tokens }], output: "none" });
    if (options.next)
      await stage.draft({ entries: [{ sequence, tokens: options.next.slice(begin, begin + tokens.length) }], output: "none" });
  }
}

/** Logits after each of `ids`: [ids, vocabSize]. The stage must allow as many outputs as a chunk has tokens. */
export async function logitsOf(
  stage: LocalStage,
  sequence: SequenceSlot,
  ids: readonly number[],
  chunk?: number,
): Promise<Float32Array<ArrayBuffer>> {
  const rows: Float32Array<ArrayBuffer>[] = [];
  for (const { tokens } of await chunks(stage, ids, chunk))
    rows.push(logits(await stage.forward({ entries: [{ sequence, tokens }], output: "allLogits" })));
  return concat(rows);
}

export function logits({ logits: values }: StepOutput): Float32Array<ArrayBuffer> {
  if (!values) throw new Error("The step gave no logits");
  return values;
}

/** One step with everything that can be compared: all logits, hidden states, routing. */
export function captured(stage: LocalStage, sequence: SequenceSlot, tokens: readonly number[], capture: Capture): Promise<StepOutput> {
  return stage.forward({ entries: [{ sequence, tokens }], output: "allLogits", capture });
}

export interface Continuation {
  readonly tokens: readonly number[];
  /** Empty without `drafts`. */
  readonly drafts: readonly number[];
}

/** Steps whose tokens are read at once. */
const READ_STEPS = 16;

/**
 * `count` tokens after a prompt whose last token is `last`, everything before it being in the caches already. Chosen tokens never leave the device before they
 * are used. With `drafts`, the MTP module guesses the token after each.
 */
export async function continuation(
  stage: LocalStage,
  sequence: SequenceSlot,
  last: number,
  count: number,
  drafts = false,
): Promise<Continuation> {
  const steps: number[] = [];
  const draftSteps: number[] = [];
  const tokens: number[] = [];
  const guesses: number[] = [];
  const read = async (): Promise<void> => {
    // Steps of `draft` lie between those of `forward`, which then are read one at a time.
    const [first = 0] = steps;
    if (drafts) for (const step of steps) tokens.push(...(await stage.sampled(step, 1)).flat());
    else if (steps.length > 0) tokens.push(...(await stage.sampled(first, steps.length)).flat());
    for (const step of draftSteps) guesses.push(...(await stage.drafted(step, 1)).flat());
    steps.length = 0;
    draftSteps.length = 0;
  };
  let next: BatchEntry["tokens"] = [last];
  for (let done = 0; done < count; done++) {
    steps.push((await stage.forward({ entries: [{ sequence, tokens: next }], output: "sample" })).step);
    if (drafts) draftSteps.push((await stage.draft({ entries: [{ sequence, tokens: "sampled" }], output: "sample" })).step);
    next = "sampled";
    if (steps.length === READ_STEPS) await read();
  }
  await read();
  return { tokens, drafts: guesses };
}

async function chunks(
  stage: LocalStage,
  ids: readonly number[],
  chunk: number | undefined,
): Promise<readonly { readonly begin: number; readonly tokens: readonly number[] }[]> {
  const size = chunk ?? (await stage.describe()).maxTokens;
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, index) => ({
    begin: index * size,
    tokens: ids.slice(index * size, (index + 1) * size),
  }));
}

export function concat(parts: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  const out = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    out.set(part, offset);
    offset += part.length;
  }
  return out;
}

/** Of a step of one token, without a head. */
export async function layerDispatches(on: LocalStage): Promise<readonly Dispatch[]> {
  const shape = { kind: "forward", tokens: 1, outputs: 0, identity: false, choose: "none", capture: "nothing", short: true } as const;
  return dispatchesOf(await on.program(shape));
}
