/** Driving a stage as the engine does, with one sequence: what the parts of a bench have in common. */
import type { SequenceSlot } from "../kvCache.ts";
import type { Batch, Stage } from "../stage.ts";

/** Steps whose tokens are read at once; two such batches are in flight, as in the engine. */
export const READ_STEPS = 16;

/** The cache holds `ids` and nothing else afterwards. @returns the number of the last step */
export async function prefill(
  stage: Stage,
  sequence: SequenceSlot,
  ids: readonly number[],
  chunkTokens: number,
  output: Batch["output"],
): Promise<number> {
  await stage.truncate(sequence, 0);
  let last = 0;
  for (let start = 0; start < ids.length; start += chunkTokens) {
    const tokens = ids.slice(start, start + chunkTokens);
    const isLast = start + chunkTokens >= ids.length;
    const { step } = await stage.forward({ entries: [{ sequence, tokens }], output: isLast ? output : "none" });
    last = step;
  }
  return last;
}

/** Greedy tokens after the one that the last step sampled, each fed back on the device. */
export async function decode(stage: Stage, sequence: SequenceSlot, count: number, signal?: AbortSignal): Promise<readonly number[]> {
  const ids: number[] = [];
  const reads: Promise<readonly (readonly number[])[]>[] = [];
  const collect = async (): Promise<void> => {
    for (const [id = 0] of (await reads.shift()) ?? []) ids.push(id);
  };
  for (let submitted = 0; submitted < count;) {
    signal?.throwIfAborted();
    const steps = Math.min(READ_STEPS, count - submitted);
    let first = 0;
    for (let i = 0; i < steps; i++) {
      const { step } = await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
      if (i === 0) first = step;
    }
    submitted += steps;
    const read = stage.sampled(first, steps);
    // Awaited in order below; a failure of a later one must not count as unhandled until then.
    read.catch(() => {});
    reads.push(read);
    if (reads.length === 2) await collect();
  }
  while (reads.length > 0) await collect();
  return ids;
}

/** A prompt of any length, with the same ids over and over: what is computed does not depend on them, but for the experts that are chosen. */
export function repeatedPrompt(ids: readonly number[], count: number): readonly number[] {
  return Array.from({ length: count }, (_, index) => ids[index % ids.length] ?? 0);
}
