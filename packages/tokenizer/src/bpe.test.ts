import { expect, test } from "vitest";
import { makeRandom, pick } from "../test/support.ts";
import { BytePairEncoder, type BpeTables } from "./bpe.ts";

/** Bytes are ids 0 to 255, each merge of `pairs` makes the next id. */
function tables(pairs: readonly (readonly [number, number])[]): BpeTables {
  const idLimit = 256 + pairs.length;
  return {
    byteIds: Int32Array.from({ length: 256 }, (_, byte) => byte),
    ranks: new Map(pairs.map(([left, right], rank) => [left * idLimit + right, rank])),
    joined: Int32Array.from(pairs, (_, rank) => 256 + rank),
    idLimit,
    wholePieces: new Map(),
  };
}

/** By the definition: look for the lowest rank, join its leftmost pair, again. */
function byDefinition(piece: string, { ranks, joined, idLimit }: BpeTables): number[] {
  const ids = [...new TextEncoder().encode(piece)];
  for (;;) {
    let best = -1;
    let bestRank = Infinity;
    for (let i = 0; i + 1 < ids.length; i++) {
      const rank = ranks.get((ids[i] ?? 0) * idLimit + (ids[i + 1] ?? 0)) ?? Infinity;
      if (rank < bestRank) [best, bestRank] = [i, rank];
    }
    if (best < 0) return ids;
    ids.splice(best, 2, joined[bestRank] ?? 0);
  }
}

function encode(encoder: BytePairEncoder, piece: string): number[] {
  const out: number[] = [];
  encoder.encodeInto(piece, out);
  return out;
}

test("BytePairEncoder agrees with the definition on random merges and pieces", () => {
  const random = makeRandom(3);
  for (let round = 0; round < 60; round++) {
    const letters = [97, 98, 99];
    const ids = [...letters];
    const pairs: [number, number][] = [];
    const seen = new Set<string>();
    while (pairs.length < 25) {
      const pair: [number, number] = [pick(random, ids), pick(random, ids)];
      if (seen.has(pair.join())) continue;
      seen.add(pair.join());
      ids.push(256 + pairs.length);
      pairs.push(pair);
    }
    const table = tables(pairs);
    const encoder = new BytePairEncoder(table);
    for (let i = 0; i < 20; i++) {
      const piece = String.fromCharCode(...Array.from({ length: 1 + random(80) }, () => pick(random, letters)));
      const expected = byDefinition(piece, table);
      expect(encode(encoder, piece)).toEqual(expected);
      expect(encode(encoder, piece), "from the cache").toEqual(expected);
    }
  }
});

test("BytePairEncoder finishes a piece of a million bytes", () => {
  const encoder = new BytePairEncoder(
    tables([
      [97, 97],
      [256, 256],
      [257, 257],
    ]),
  );
  const ids = encode(encoder, "a".repeat(1_000_003));
  expect(ids.length).toBe(125_000 + 2);
  expect(ids.slice(-3)).toEqual([258, 256, 97]);
});
