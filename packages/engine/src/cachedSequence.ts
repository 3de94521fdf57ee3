/**
 * One sequence of a stage, and the ids that its KV cache holds. Positions whose ids nobody has read yet (sampled, then fed back on the device) count as
 * unknown and are cut off by `settle`.
 */
import type { Batch, SequenceSlot, Stage, StepOutput } from "@shoal/model";

export class CachedSequence {
  readonly #stage: Stage;
  readonly #slot: SequenceSlot;
  /** Ids of the positions `0 .. #ids.length`, known to be those of the cache if it is that long. */
  #ids: number[] = [];
  /** Positions that the cache holds. */
  #length = 0;

  constructor(stage: Stage, slot: SequenceSlot) {
    this.#stage = stage;
    this.#slot = slot;
  }

  get slot(): SequenceSlot {
    return this.#slot;
  }

  /** Positions that the cache holds. */
  get length(): number {
    return this.#length;
  }

  /** Cuts the cache down to what it has in common with `promptIds`, less one token if that is all of them: something must be computed to have logits. */
  async reuse(promptIds: readonly number[]): Promise<number> {
    const most = Math.min(this.#ids.length, this.#length, promptIds.length - 1);
    let common = 0;
    while (common < most && this.#ids[common] === promptIds[common]) common++;
    await this.#truncate(common);
    return common;
  }

  /** Runs a step over known ids. */
  async append(ids: readonly number[], output: Batch["output"]): Promise<StepOutput> {
    const step = await this.#stage.forward({ entries: [{ sequence: this.#slot, tokens: ids }], output });
    this.#length += ids.length;
    this.#ids.push(...ids);
    return step;
  }

  /** Runs a step over the token that the last step sampled, and samples the next. */
  async appendSampled(): Promise<StepOutput> {
    const step = await this.#stage.forward({ entries: [{ sequence: this.#slot, tokens: "sampled" }], output: "sample" });
    this.#length++;
    return step;
  }

  /** Ids that were sampled, in order, once they are read. */
  learn(id: number): void {
    this.#ids.push(id);
  }

  /** Forgets positions that are unknown, and ids that never entered the cache. */
  async settle(): Promise<void> {
    const known = Math.min(this.#ids.length, this.#length);
    await this.#truncate(known);
  }

  async #truncate(length: number): Promise<void> {
    if (length < this.#length) await this.#stage.truncate(this.#slot, length);
    this.#length = length;
    this.#ids.length = length;
  }
}
