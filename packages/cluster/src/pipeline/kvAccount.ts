/**
 * Which sequences and KV blocks a pipeline has given out, counted as each of its stages counts them (`PagedKvCache` of @shoal/model): so a step that does not fit is refused before any
 * stage has begun it, and blocks have numbers of the pipeline's own, whatever each stage calls them.
 */
import { type KvBlock, ModelError, type SequenceSlot } from "@shoal/model";

export interface KvAccountLimits {
  readonly blocks: number;
  readonly blockSize: number;
  readonly contextTokens: number;
  readonly maxSequences: number;
}

interface Counted {
  length: number;
  readonly blocks: KvBlock[];
}

export class KvAccount {
  readonly #limits: KvAccountLimits;
  readonly #free: KvBlock[];
  readonly #holders: Uint32Array;
  readonly #sequences = new Map<SequenceSlot, Counted>();

  constructor(limits: KvAccountLimits) {
    this.#limits = limits;
    this.#free = Array.from({ length: limits.blocks }, (_, index) => (limits.blocks - 1 - index) as KvBlock);
    this.#holders = new Uint32Array(limits.blocks);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  /** @throws ModelError named too-many-sequences, context-exceeded or bad-batch */
  open(prefix: readonly KvBlock[]): SequenceSlot {
    const { maxSequences, blockSize, contextTokens } = this.#limits;
    const length = prefix.length * blockSize;
    if (length > contextTokens)
      throw new ModelError("context-exceeded", `Cannot open a sequence of ${length} tokens, expected at most ${contextTokens}`);
    for (const block of prefix) this.#checkHeld(block);
    for (let number = 0; number < maxSequences; number++) {
      const slot = number as SequenceSlot;
      if (this.#sequences.has(slot)) continue;
      for (const block of prefix) this.#hold(block);
      this.#sequences.set(slot, { length, blocks: [...prefix] });
      return slot;
    }
    throw new ModelError("too-many-sequences", `Cannot open a sequence: all ${maxSequences} are in use`);
  }

  length(slot: SequenceSlot): number {
    return this.#sequence(slot).length;
  }

  /** Nothing changes if it throws. @throws ModelError named context-exceeded, out-of-kv-blocks or unknown-sequence */
  extend(growth: readonly { readonly sequence: SequenceSlot; readonly tokens: number }[]): void {
    const { blockSize, contextTokens } = this.#limits;
    let needed = 0;
    for (const { sequence, tokens } of growth) {
      const { length, blocks } = this.#sequence(sequence);
      if (length + tokens > contextTokens)
        throw new ModelError(
          "context-exceeded",
          `Cannot extend a sequence to ${length + tokens} tokens, expected at most ${contextTokens}`,
        );
      needed += Math.max(0, Math.ceil((length + tokens) / blockSize) - blocks.length);
    }
    if (needed > this.#free.length)
      throw new ModelError(
        "out-of-kv-blocks",
        `Cannot extend the sequences: ${needed} KV blocks are needed, ${this.#free.length} are free`,
      );
    for (const { sequence, tokens } of growth) {
      const counted = this.#sequence(sequence);
      counted.length += tokens;
      const more = Math.ceil(counted.length / blockSize) - counted.blocks.length;
      for (let i = 0; i < more; i++) {
        const block = this.#free.pop();
        if (block === undefined) throw new RangeError("KV blocks were counted wrongly");
        this.#hold(block);
        counted.blocks.push(block);
      }
    }
  }

  /** @throws ModelError named bad-batch if they are not all there and full */
  retain(slot: SequenceSlot, first: number, count: number): readonly KvBlock[] {
    const { length, blocks } = this.#sequence(slot);
    const full = Math.floor(length / this.#limits.blockSize);
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || first < 0 || count < 0 || first + count > full)
      throw new ModelError("bad-batch", `Cannot retain KV blocks ${first} to ${first + count}: the sequence has ${full} full ones`);
    const retained = blocks.slice(first, first + count);
    for (const block of retained) this.#hold(block);
    return retained;
  }

  /** @throws ModelError named bad-batch for a block that nobody holds, or that is named twice; nothing has changed then */
  release(blocks: readonly KvBlock[]): void {
    if (new Set(blocks).size < blocks.length) throw new ModelError("bad-batch", "Cannot release KV blocks: one is named twice");
    for (const block of blocks) this.#checkHeld(block);
    for (const block of blocks) this.#letGo(block);
  }

  /** @throws ModelError named bad-batch if the sequence is shorter, or the cut lies within a block that others hold */
  truncate(slot: SequenceSlot, length: number): void {
    const { blockSize } = this.#limits;
    const counted = this.#sequence(slot);
    if (!Number.isInteger(length) || length < 0 || length > counted.length)
      throw new ModelError("bad-batch", `Cannot truncate a sequence of ${counted.length} tokens to ${length}`);
    const last = counted.blocks[Math.floor(length / blockSize)];
    if (length < counted.length && length % blockSize > 0 && last !== undefined && (this.#holders[last] ?? 0) > 1)
      throw new ModelError(
        "bad-batch",
        `Cannot truncate a sequence to ${length} tokens: others hold that KV block, expected a multiple of ${blockSize}`,
      );
    counted.length = length;
    for (const block of counted.blocks.splice(Math.ceil(length / blockSize)).toReversed()) this.#letGo(block);
  }

  close(slot: SequenceSlot): void {
    this.truncate(slot, 0);
    this.#sequences.delete(slot);
  }

  #hold(block: KvBlock): void {
    this.#holders[block] = (this.#holders[block] ?? 0) + 1;
  }

  #letGo(block: KvBlock): void {
    const holders = (this.#holders[block] ?? 0) - 1;
    this.#holders[block] = holders;
    if (holders === 0) this.#free.push(block);
  }

  #checkHeld(block: KvBlock): void {
    if (!((this.#holders[block] ?? 0) > 0)) throw new ModelError("bad-batch", `Cannot use KV block ${block}: nobody holds it`);
  }

  #sequence(slot: SequenceSlot): Counted {
    const sequence = this.#sequences.get(slot);
    if (!sequence) throw new ModelError("unknown-sequence", `Cannot use sequence ${slot}: it is not open`);
    return sequence;
  }
}
