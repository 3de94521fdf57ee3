/**
 * The paged latent KV cache: for each layer one buffer of blocks, and one block table for all layers. A token takes kvLoraRank + qkRopeHeadDim values a layer
 * (DeepSeek-V2, arXiv 2405.04434, section 2.1). Blocks are handed out as sequences grow and given back when they shrink or close. A block has holders, sequences
 * and whoever retained it, and is free when the last lets go: sequences that begin alike share the blocks of what they have in common, without a copy.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import { AdapterLimitError, type GpuContext } from "@shoal/gpu";
import { type KvCache, type KvFormat, type MlaShape, kvRowBytes } from "@shoal/kernels";
import { ModelError } from "./errors.ts";
import { bindingBytes } from "./weights/layout.ts";

/** Tokens in a block: small enough that a short chat wastes little, large enough that tables stay short. */
export const KV_BLOCK_SIZE = 32;

/** A sequence's slot: its row of the block table and of everything kept by sequence. */
export type SequenceSlot = number & { readonly brand: "SequenceSlot" };

/** A KV block's number in a stage's pool. */
export type KvBlock = number & { readonly brand: "KvBlock" };

interface Sequence {
  length: number;
  readonly blocks: KvBlock[];
}

export interface KvCacheOptions {
  readonly config: ModelConfig;
  readonly layers: number;
  readonly format: KvFormat;
  readonly maxSequences: number;
  /** Longest sequence, in tokens. */
  readonly contextTokens: number;
  /** Tokens of all sequences together; by default one sequence of full length. */
  readonly totalTokens?: number;
}

export function mlaShape(config: ModelConfig): MlaShape {
  const { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank } = config;
  return { nHeads, qkNopeHeadDim, qkRopeHeadDim, vHeadDim, kvLoraRank };
}

export class PagedKvCache {
  readonly layers: readonly KvCache[];
  readonly blockTable: GPUBuffer;
  readonly blocksPerSequence: number;
  readonly contextTokens: number;
  readonly maxSequences: number;
  readonly #gpu: GpuContext;
  readonly #free: KvBlock[];
  /** Of each block. */
  readonly #holders: Uint32Array<ArrayBuffer>;
  readonly #sequences = new Map<SequenceSlot, Sequence>();

  /** @throws AdapterLimitError if one layer's cache exceeds a binding. */
  constructor(gpu: GpuContext, options: KvCacheOptions) {
    const { config, format, maxSequences, contextTokens, totalTokens = contextTokens } = options;
    const shape = mlaShape(config);
    const blocks = Math.max(maxSequences, Math.ceil(totalTokens / KV_BLOCK_SIZE));
    const rowBytes = kvRowBytes(shape, format);
    const bytes = blocks * KV_BLOCK_SIZE * rowBytes;
    const most = bindingBytes(gpu.limits);
    if (bytes > most)
      throw new AdapterLimitError(
        `keep ${blocks * KV_BLOCK_SIZE} tokens in the KV cache`,
        "maxStorageBufferBindingSize",
        bytes,
        most,
        "use a shorter --context",
      );
    this.#gpu = gpu;
    this.contextTokens = contextTokens;
    this.maxSequences = maxSequences;
    this.blocksPerSequence = Math.ceil(contextTokens / KV_BLOCK_SIZE);
    this.layers = Array.from({ length: options.layers }, (_, layer) => ({
      buffer: gpu.buffer({ label: `KV cache ${layer}`, size: bytes, kind: "kvCache" }),
      format,
      blockSize: KV_BLOCK_SIZE,
      rowBytes,
    }));
    this.blockTable = gpu.buffer({ label: "block table", size: maxSequences * this.blocksPerSequence * 4, kind: "tables" });
    // Popped from the end: lowest numbers first.
    this.#free = Array.from({ length: blocks }, (_, index) => (blocks - 1 - index) as KvBlock);
    this.#holders = new Uint32Array(blocks);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  get usedBlocks(): number {
    return this.#holders.length - this.#free.length;
  }

  /**
   * Opens a sequence that begins with these blocks, all full, which somebody must hold.
   * @throws ModelError named too-many-sequences, context-exceeded, or bad-batch for a block that nobody holds.
   */
  open(prefix: readonly KvBlock[] = []): SequenceSlot {
    if (prefix.length * KV_BLOCK_SIZE > this.contextTokens)
      throw new ModelError(
        "context-exceeded",
        `Cannot open a sequence of ${prefix.length * KV_BLOCK_SIZE} tokens, expected at most ${this.contextTokens}`,
      );
    for (const block of prefix) this.#checkHeld(block);
    for (let slot = 0; slot < this.maxSequences; slot++) {
      const candidate = slot as SequenceSlot;
      if (this.#sequences.has(candidate)) continue;
      for (const block of prefix) this.#hold(block);
      this.#sequences.set(candidate, { length: prefix.length * KV_BLOCK_SIZE, blocks: [...prefix] });
      if (prefix.length > 0) this.#gpu.write(this.blockTable, slot * this.blocksPerSequence * 4, Uint32Array.from(prefix));
      return candidate;
    }
    throw new ModelError("too-many-sequences", `Cannot open a sequence: all ${this.maxSequences} are in use`);
  }

  /** The blocks of a sequence, in order; the last may be half full. */
  blocks(slot: SequenceSlot): readonly KvBlock[] {
    return this.#sequence(slot).blocks;
  }

  /**
   * Takes a hold of full blocks `first .. first + count` of a sequence, until `release`.
   * @throws ModelError named bad-batch if they are not all there and full.
   */
  retain(slot: SequenceSlot, first: number, count: number): readonly KvBlock[] {
    const { length, blocks } = this.#sequence(slot);
    const full = Math.floor(length / KV_BLOCK_SIZE);
    if (!Number.isSafeInteger(first) || !Number.isSafeInteger(count) || first < 0 || count < 0 || first + count > full)
      throw new ModelError("bad-batch", `Cannot retain KV blocks ${first} to ${first + count}: the sequence has ${full} full ones`);
    const retained = blocks.slice(first, first + count);
    for (const block of retained) this.#hold(block);
    return retained;
  }

  /** @throws ModelError named bad-batch for a block that nobody holds, or that is named twice; nothing has changed then. */
  release(blocks: readonly KvBlock[]): void {
    if (new Set(blocks).size < blocks.length) throw new ModelError("bad-batch", "Cannot release KV blocks: one is named twice");
    for (const block of blocks) this.#checkHeld(block);
    for (const block of blocks) this.#letGo(block);
  }

  length(slot: SequenceSlot): number {
    return this.#sequence(slot).length;
  }

  /**
   * Makes room for `tokens` more in each of some sequences and counts them. Nothing changes if it throws.
   * @throws ModelError named context-exceeded or out-of-kv-blocks.
   */
  extend(growth: readonly { readonly sequence: SequenceSlot; readonly tokens: number }[]): void {
    let needed = 0;
    for (const { sequence: slot, tokens } of growth) {
      const { length, blocks } = this.#sequence(slot);
      if (length + tokens > this.contextTokens)
        throw new ModelError(
          "context-exceeded",
          `Cannot extend a sequence to ${length + tokens} tokens, expected at most ${this.contextTokens}`,
        );
      needed += Math.max(0, Math.ceil((length + tokens) / KV_BLOCK_SIZE) - blocks.length);
    }
    if (needed > this.#free.length)
      throw new ModelError(
        "out-of-kv-blocks",
        `Cannot extend the sequences: ${needed} KV blocks are needed, ${this.#free.length} are free`,
      );
    for (const { sequence, tokens } of growth) this.#grow(sequence, tokens);
  }

  #grow(slot: SequenceSlot, tokens: number): void {
    const sequence = this.#sequence(slot);
    sequence.length += tokens;
    const needed = Math.ceil(sequence.length / KV_BLOCK_SIZE) - sequence.blocks.length;
    if (needed <= 0) return;
    const added = this.#free.splice(this.#free.length - needed, needed).toReversed();
    for (const block of added) this.#hold(block);
    const start = slot * this.blocksPerSequence + sequence.blocks.length;
    sequence.blocks.push(...added);
    this.#gpu.write(this.blockTable, start * 4, Uint32Array.from(added));
  }

  /**
   * Forgets tokens from `length` on.
   * @throws ModelError named bad-batch if the sequence is shorter, or the cut lies within a block that others hold: what is written there next would be theirs too.
   */
  truncate(slot: SequenceSlot, length: number): void {
    const sequence = this.#sequence(slot);
    if (!Number.isInteger(length) || length < 0 || length > sequence.length)
      throw new ModelError("bad-batch", `Cannot truncate a sequence of ${sequence.length} tokens to ${length}`);
    const last = sequence.blocks[Math.floor(length / KV_BLOCK_SIZE)];
    if (length < sequence.length && length % KV_BLOCK_SIZE > 0 && last !== undefined && (this.#holders[last] ?? 0) > 1)
      throw new ModelError(
        "bad-batch",
        `Cannot truncate a sequence to ${length} tokens: others hold that KV block, expected a multiple of ${KV_BLOCK_SIZE}`,
      );
    sequence.length = length;
    for (const block of sequence.blocks.splice(Math.ceil(length / KV_BLOCK_SIZE)).toReversed()) this.#letGo(block);
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

  #sequence(slot: SequenceSlot): Sequence {
    const sequence = this.#sequences.get(slot);
    if (!sequence) throw new ModelError("unknown-sequence", `Cannot use sequence ${slot}: it is not open`);
    return sequence;
  }
}
