/**
 * What earlier prompts and answers left in the KV cache, by their tokens: a radix tree whose edges are whole KV blocks. A request begins with the longest path that its
 * prompt has in common with the tree. Nodes that running requests stand on stay; of the others the least recently used leaf goes first when room is needed. Pure: who holds
 * which block on the stage is the engine's concern.
 *
 * RadixAttention: Zheng et al., SGLang, arXiv 2312.07104, section 3.
 */
import type { KvBlock } from "@shoal/model";

export interface PrefixNode {
  readonly block: KvBlock;
  readonly parent: PrefixNode | undefined;
  /** The block's tokens. */
  readonly key: string;
  readonly children: Map<string, PrefixNode>;
  /** Running requests that have this block. */
  users: number;
}

export class PrefixCache {
  readonly #blockSize: number;
  readonly #roots = new Map<string, PrefixNode>();
  /** Nodes without children and users, the least recently used first. */
  readonly #evictable = new Set<PrefixNode>();
  #size = 0;
  #unused = 0;

  constructor(blockSize: number) {
    this.#blockSize = blockSize;
  }

  /** Blocks in the tree. */
  get size(): number {
    return this.#size;
  }

  /** Blocks that `evict` could give now: all that no running request has. */
  get unused(): number {
    return this.#unused;
  }

  /** The longest path of whole blocks that `ids` begins with, at most `most` tokens; its nodes are in use until `leave`. */
  enter(ids: readonly number[], most: number): readonly PrefixNode[] {
    const path: PrefixNode[] = [];
    let level: ReadonlyMap<string, PrefixNode> = this.#roots;
    for (let begin = 0; begin + this.#blockSize <= Math.min(ids.length, most); begin += this.#blockSize) {
      const node = level.get(this.#key(ids, begin));
      if (!node) break;
      path.push(node);
      level = node.children;
    }
    for (const node of path) this.#use(node);
    return path;
  }

  /**
   * Adds the whole blocks of a sequence: `blocks[i]` holds `ids[i * blockSize ..]`. Where the tree has those tokens already, its own block stays.
   * @param held nodes that the sequence is on already
   * @returns `entered`: further nodes that are in use by the sequence until `leave`; `added`: those of them that are new, whose blocks must be held for the tree.
   */
  add(
    ids: readonly number[],
    blocks: readonly KvBlock[],
    held: ReadonlySet<PrefixNode>,
  ): { readonly entered: readonly PrefixNode[]; readonly added: readonly PrefixNode[] } {
    const entered: PrefixNode[] = [];
    const added: PrefixNode[] = [];
    let parent: PrefixNode | undefined;
    let level = this.#roots;
    for (const [index, block] of blocks.entries()) {
      const key = this.#key(ids, index * this.#blockSize);
      let node = level.get(key);
      if (!node) {
        // A sequence is on every node of its path, so nothing above a node in use is ever evictable.
        node = { block, parent, key, children: new Map(), users: 1 };
        level.set(key, node);
        this.#size++;
        added.push(node);
        entered.push(node);
      } else if (!held.has(node)) {
        this.#use(node);
        entered.push(node);
      }
      parent = node;
      level = node.children;
    }
    return { entered, added };
  }

  /** Ends one use of these nodes; they are now the most recently used. */
  leave(nodes: readonly PrefixNode[]): void {
    // Children first, so that a path is given up from its end.
    for (const node of nodes.toReversed()) {
      node.users--;
      if (node.users > 0) continue;
      this.#unused++;
      if (node.children.size === 0) this.#evictable.add(node);
    }
  }

  /** Takes up to `count` blocks out of the tree, for their holder to release. */
  evict(count: number): readonly KvBlock[] {
    const blocks: KvBlock[] = [];
    while (blocks.length < count) {
      const [leaf] = this.#evictable;
      if (!leaf) break;
      this.#evictable.delete(leaf);
      const { parent } = leaf;
      (parent?.children ?? this.#roots).delete(leaf.key);
      this.#size--;
      this.#unused--;
      blocks.push(leaf.block);
      if (parent?.children.size === 0 && parent.users === 0) this.#evictable.add(parent);
    }
    return blocks;
  }

  #use(node: PrefixNode): void {
    if (node.users === 0) {
      this.#unused--;
      this.#evictable.delete(node);
    }
    node.users++;
  }

  #key(ids: readonly number[], begin: number): string {
    return ids.slice(begin, begin + this.#blockSize).join();
  }
}
