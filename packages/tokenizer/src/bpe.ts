/**
 * Byte-pair encoding of one piece: start from bytes, always join the adjacent pair of lowest rank, leftmost first. O(n log n) in the piece's
 * bytes by a heap over a linked list, so that a megabyte of one letter or of spaces (one piece) costs no square.
 */

export interface BpeTables {
  /** byte -> id of the vocabulary entry for that one byte. */
  readonly byteIds: Int32Array;
  /** left id * idLimit + right id -> rank of the merge. */
  readonly ranks: ReadonlyMap<number, number>;
  /** rank -> id of the joined entry. */
  readonly joined: Int32Array;
  readonly idLimit: number;
  /** `ignore_merges`: pieces that are entries themselves, taken whole; keyed by text. Empty unless the model asks for it. */
  readonly wholePieces: ReadonlyMap<string, number>;
}

/** Pieces longer than this are not remembered, and so many are kept at most: words repeat, long runs do not. */
const maxCachedLength = 48;
const maxCacheEntries = 20_000;

export class BytePairEncoder {
  readonly #tables: BpeTables;
  readonly #cache = new Map<string, readonly number[]>();
  readonly #encoder = new TextEncoder();

  constructor(tables: BpeTables) {
    this.#tables = tables;
  }

  /** Appends the ids of one well-formed piece to `out`. */
  encodeInto(piece: string, out: number[]): void {
    let ids = this.#cache.get(piece);
    if (ids === undefined) {
      const whole = this.#tables.wholePieces.get(piece);
      ids = whole === undefined ? this.#merge(this.#encoder.encode(piece)) : [whole];
      if (piece.length <= maxCachedLength) {
        if (this.#cache.size >= maxCacheEntries) this.#cache.clear();
        this.#cache.set(piece, ids);
      }
    }
    for (const id of ids) out.push(id);
  }

  #merge(bytes: Uint8Array): readonly number[] {
    const { byteIds, ranks, joined, idLimit } = this.#tables;
    const count = bytes.length;
    const ids = Int32Array.from(bytes, (byte) => byteIds[byte] ?? -1);
    // Position of the symbol after (before) this one; `count` and -1 are the ends.
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    // Rank of the pair that starts here, -1 if none: an entry of the heap is stale when it differs.
    const rankAt = new Int32Array(count).fill(-1);
    const heap = new MinHeap(3 * count);

    const offer = (position: number): void => {
      const right = next[position] ?? count;
      const rank = right < count ? ranks.get((ids[position] ?? 0) * idLimit + (ids[right] ?? 0)) : undefined;
      rankAt[position] = rank ?? -1;
      // Rank first, then position; below 2^53, since ranks are under 2^21 and positions under 2^27.
      if (rank !== undefined) heap.push(rank * count + position);
    };
    for (let i = 0; i + 1 < count; i++) offer(i);

    for (let key = heap.pop(); key >= 0; key = heap.pop()) {
      const rank = Math.floor(key / count);
      const position = key % count;
      if (rankAt[position] !== rank) continue;
      const right = next[position] ?? count;
      const after = next[right] ?? count;
      ids[position] = joined[rank] ?? 0;
      rankAt[right] = -1;
      next[position] = after;
      if (after < count) previous[after] = position;
      offer(position);
      const before = previous[position] ?? -1;
      if (before >= 0) offer(before);
    }

    const out: number[] = [];
    for (let i = 0; i < count; i = next[i] ?? count) out.push(ids[i] ?? 0);
    return out;
  }
}

/** A binary heap of non-negative numbers with a fixed capacity; `pop` gives -1 when it is empty. */
class MinHeap {
  readonly #keys: Float64Array;
  #size = 0;

  constructor(capacity: number) {
    this.#keys = new Float64Array(capacity);
  }

  push(key: number): void {
    const keys = this.#keys;
    let at = this.#size++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = keys[parent] ?? 0;
      if (other <= key) break;
      keys[at] = other;
      at = parent;
    }
    keys[at] = key;
  }

  pop(): number {
    if (this.#size === 0) return -1;
    const keys = this.#keys;
    const top = keys[0] ?? -1;
    const last = keys[--this.#size] ?? 0;
    const size = this.#size;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      if (child + 1 < size && (keys[child + 1] ?? 0) < (keys[child] ?? 0)) child++;
      const other = keys[child] ?? 0;
      if (other >= last) break;
      keys[at] = other;
      at = child;
    }
    keys[at] = last;
    return top;
  }
}
