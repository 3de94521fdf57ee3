/**
 * Drafts of chained steps, which nobody waits for before the next step: their commands are submitted together with its, one submission
 * a step instead of two. And they never are where their sequences end first: the last drafts of an answer are for nobody.
 *
 * What such commands read and write, the host leaves alone until they are submitted: their batches are buffers of their own, and whatever else writes to the device asks for them first.
 */
import type { Command } from "@shoal/gpu";
import type { SequenceSlot } from "./kvCache.ts";

export class HeldDrafts {
  #commands: readonly Command[] = [];
  readonly #sequences = new Set<SequenceSlot>();

  /** Behind those that are held. */
  hold(commands: readonly Command[], sequences: readonly SequenceSlot[]): void {
    this.#commands = [...this.#commands, ...commands];
    for (const sequence of sequences) this.#sequences.add(sequence);
  }

  /** To be submitted before anything else. */
  take(): readonly Command[] {
    const commands = this.#commands;
    this.#commands = [];
    this.#sequences.clear();
    return commands;
  }

  /**
   * The sequence's drafts are for nobody any more.
   * @returns what must be submitted before another sequence has its place, since held commands would take it for this one: none, unless others wait for them, too
   */
  close(sequence: SequenceSlot): readonly Command[] {
    if (!this.#sequences.has(sequence)) return [];
    const isLast = this.#sequences.size === 1;
    const commands = this.take();
    return isLast ? [] : commands;
  }
}
