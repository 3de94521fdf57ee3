/**
 * What the MTP module attends to. Its cache has a row for each position of a sequence that it ran over; after a prompt, or steps, that it did not run over, there are gaps, with whatever
 * another sequence left in those blocks. So for the module a sequence begins at the block in which its run without a gap began: its positions are counted from there, by a block table of its
 * own. Positions enter nothing but the rotation of queries and keys, where differences alone count (RoFormer, arXiv 2104.09864, section 3.2).
 *
 * That costs little, for the main model's state, which the module starts from, knows all of the text: with nothing but the last positions of a prompt before them the embedded model's drafts
 * are as often right as with all, and with none at all a little less often, for a few steps.
 */
import type { GpuContext } from "@shoal/gpu";
import { type KvBlock, KV_BLOCK_SIZE, type SequenceSlot } from "./kvCache.ts";

interface Window {
  /** The sequence's position that is the module's 0: a multiple of KV_BLOCK_SIZE. */
  readonly first: number;
  /** Behind the last position of the run. */
  end: number;
  /** The table's row on the device. */
  blocks: readonly KvBlock[];
}

const NOTHING: Window = { first: 0, end: 0, blocks: [] };

export class MtpWindow {
  /** As the KV cache's: [sequences, blocks]. */
  readonly blockTable: GPUBuffer;
  readonly #gpu: GpuContext;
  readonly #blocksPerSequence: number;
  readonly #windows = new Map<SequenceSlot, Window>();

  constructor(gpu: GpuContext, { maxSequences, blocksPerSequence }: { readonly maxSequences: number; readonly blocksPerSequence: number }) {
    this.#gpu = gpu;
    this.#blocksPerSequence = blocksPerSequence;
    this.blockTable = gpu.buffer({ label: "MTP block table", size: maxSequences * blocksPerSequence * 4, kind: "tables" });
  }

  /** A slot is another sequence's now. */
  forget(sequence: SequenceSlot): void {
    this.#windows.delete(sequence);
  }

  /** The sequence was cut: what comes next there, the module has not run over. */
  truncate(sequence: SequenceSlot, length: number): void {
    const window = this.#windows.get(sequence);
    if (window) window.end = Math.min(window.end, length);
  }

  /** Where the window begins in a run over positions from `start` on. */
  first(sequence: SequenceSlot, start: number): number {
    const { first, end } = this.#windows.get(sequence) ?? NOTHING;
    return start >= first && start <= end ? first : start - (start % KV_BLOCK_SIZE);
  }

  /** The module runs over positions `start .. end` of a sequence that has these blocks, which may reach further. */
  run(
    sequence: SequenceSlot,
    { start, end, blocks }: { readonly start: number; readonly end: number; readonly blocks: readonly KvBlock[] },
  ): void {
    const before = this.#windows.get(sequence) ?? NOTHING;
    const first = this.first(sequence, start);
    const row = blocks.slice(first / KV_BLOCK_SIZE);
    const same = row.length <= before.blocks.length && row.every((block, index) => block === before.blocks[index]);
    // A shorter row is told by what the table has already.
    if (!same) this.#gpu.write(this.blockTable, sequence * this.#blocksPerSequence * 4, Uint32Array.from(row));
    this.#windows.set(sequence, { first, end, blocks: same ? before.blocks : row });
  }
}
