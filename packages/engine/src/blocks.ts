/** Who has the stage's KV blocks: running sequences, the prefix cache, nobody. Keeps the stage's holds and the tree in step with each other. */
import type { KvBlock, Stage } from "@shoal/model";
import type { ActiveRequest, Placement } from "./activeRequest.ts";
import { PrefixCache, type PrefixNode } from "./prefixCache.ts";

export interface FoundPrefix {
  readonly nodes: readonly PrefixNode[];
  readonly blocks: readonly KvBlock[];
  readonly tokens: number;
}

export class BlockLedger {
  readonly blockSize: number;
  /** All of the stage's. */
  readonly total: number;
  readonly #stage: Stage;
  readonly #cache: PrefixCache;
  readonly #keeps: boolean;

  /** @param keeps whether blocks outlive their request */
  constructor(
    stage: Stage,
    { kvBlockSize, freeKvBlocks }: { readonly kvBlockSize: number; readonly freeKvBlocks: number },
    keeps: boolean,
  ) {
    this.#stage = stage;
    this.blockSize = kvBlockSize;
    this.total = freeKvBlocks;
    this.#cache = new PrefixCache(kvBlockSize);
    this.#keeps = keeps;
  }

  /** In the prefix cache and in no running sequence. */
  get unused(): number {
    return this.#cache.unused;
  }

  /** Free on the stage, given what runs. */
  free(running: Iterable<Placement>): number {
    let own = 0;
    for (const { length, sharedBlocks } of running) own += this.count(length) - sharedBlocks;
    return this.total - this.#cache.size - own;
  }

  /** Blocks of so many tokens. */
  count(tokens: number): number {
    return Math.ceil(tokens / this.blockSize);
  }

  /** What is cached of a request's ids, as far as it may be used. In use until `forget`. */
  find(request: ActiveRequest): FoundPrefix {
    const ids = request.ids(0, request.knownLength);
    const nodes = this.#cache.enter(ids, request.mostCached);
    return { nodes, blocks: nodes.map(({ block }) => block), tokens: nodes.length * this.blockSize };
  }

  forget(nodes: Iterable<PrefixNode>): void {
    this.#cache.leave([...nodes]);
  }

  /** Puts the full blocks of a sequence whose ids are known into the cache. */
  async remember(request: ActiveRequest, placement: Placement): Promise<void> {
    if (!this.#keeps) return;
    const full = Math.floor(Math.min(placement.length, request.knownLength) / this.blockSize);
    if (full <= placement.nodes.size) return;
    const blocks = await this.#stage.retain(placement.slot, 0, full);
    const { entered, added } = this.#cache.add(request.ids(0, full * this.blockSize), blocks, placement.nodes);
    for (const node of entered) placement.nodes.add(node);
    placement.sharedBlocks += added.length;
    const kept = new Set(added.map(({ block }) => block));
    await this.#stage.release(blocks.filter((block) => !kept.has(block)));
  }

  /** Ends a sequence; what is known of it may be found by later requests. */
  async close(request: ActiveRequest, placement: Placement): Promise<void> {
    await this.remember(request, placement);
    await this.#stage.close(placement.slot);
    this.#cache.leave([...placement.nodes]);
  }

  /** Gives up to `count` blocks of the cache back to the stage. */
  async evict(count: number): Promise<number> {
    const blocks = this.#cache.evict(count);
    if (blocks.length > 0) await this.#stage.release(blocks);
    return blocks.length;
  }
}
