/** What a pipeline has open on one of its stages, counted by what the stage has answered: a pipeline that failed between two stages gives back what each of them really holds. */
import { type KvBlock, type KvSnapshot, type SequenceSlot, type Stage, isLoss } from "@shoal/model";

export class StageUse {
  readonly stage: Stage;
  readonly #sequences = new Set<SequenceSlot>();
  /** How often each block is held. */
  readonly #holds = new Map<KvBlock, number>();

  constructor(stage: Stage) {
    this.stage = stage;
  }

  open(prefix: readonly KvBlock[]): Promise<SequenceSlot> {
    return this.#opened(this.stage.open(prefix));
  }

  importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    return this.#opened(this.stage.importKv(snapshot, onto));
  }

  async close(sequence: SequenceSlot): Promise<void> {
    await this.stage.close(sequence);
    this.#sequences.delete(sequence);
  }

  async retain(sequence: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    const blocks = await this.stage.retain(sequence, first, count);
    for (const block of blocks) this.#holds.set(block, (this.#holds.get(block) ?? 0) + 1);
    return blocks;
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    await this.stage.release(blocks);
    for (const block of blocks) {
      const left = (this.#holds.get(block) ?? 0) - 1;
      if (left > 0) this.#holds.set(block, left);
      else this.#holds.delete(block);
    }
  }

  /** Closes and releases everything, when no call is under way. @returns the stage, or undefined if it is gone */
  async giveBack(): Promise<Stage | undefined> {
    try {
      await this.stage.describe();
      for (const sequence of this.#sequences) await this.close(sequence);
      while (this.#holds.size > 0) await this.release([...this.#holds.keys()]);
      return this.stage;
    } catch (error) {
      if (!isLoss(error)) throw error;
      return undefined;
    }
  }

  async #opened(opening: Promise<SequenceSlot>): Promise<SequenceSlot> {
    const sequence = await opening;
    this.#sequences.add(sequence);
    return sequence;
  }
}
