import { describe, expect, it } from "vitest";
import { openSafetensors } from "@shoal/safetensors";
import { fileSource } from "@shoal/safetensors/file";
import { ExpertCache } from "./expertCache.ts";

const TRACE = new URL("../../test/fixtures/tiny-routing.safetensors", import.meta.url).pathname;
/** The embedded model's. */
const EXPERTS = 32;
/** Room for a quarter of a layer's experts. */
const SLOTS = EXPERTS / 4;

/** Experts that one token needs, in one layer. */
type Visit = readonly number[];

/** Of each MoE layer, token after token, conversation after conversation: [layers][tokens][chosen]. */
async function recorded(): Promise<readonly (readonly Visit[])[]> {
  const file = await openSafetensors(await fileSource(TRACE));
  try {
    const layers: Visit[][] = [];
    for (const [name, { shape }] of file.tensors) {
      const [tokens = 0, moeLayers = 0, chosen = 0] = shape;
      const bytes = await file.readTensor(name);
      for (let token = 0; token < tokens; token++)
        for (let layer = 0; layer < moeLayers; layer++) {
          const begin = (token * moeLayers + layer) * chosen;
          (layers[layer] ??= []).push([...bytes.subarray(begin, begin + chosen)].sort((a, b) => a - b));
        }
    }
    return layers;
  } finally {
    await file.close();
  }
}

interface Replay {
  readonly needed: number;
  readonly hits: number;
  readonly loads: number;
}

/** As LocalExpertShard drives it. */
function replay(visits: readonly Visit[], cache: ExpertCache, prefetches: boolean): Replay {
  let [needed, hits, loads] = [0, 0, 0];
  for (const visit of visits) {
    cache.use(visit);
    needed += visit.length;
    hits += visit.filter((expert) => cache.slotOf(expert) !== undefined).length;
    loads += cache.admit(visit).length;
    const likely = prefetches ? cache.likely() : undefined;
    if (likely !== undefined) loads += cache.admit([likely]).length;
  }
  return { needed, hits, loads };
}

/** Least recently used, written for comparison. */
function replayLru(visits: readonly Visit[], slots: number): Replay {
  let order: number[] = [];
  let [needed, hits] = [0, 0];
  for (const visit of visits) {
    needed += visit.length;
    hits += visit.filter((expert) => order.includes(expert)).length;
    order = [...order.filter((expert) => !visit.includes(expert)), ...visit].slice(-slots);
  }
  return { needed, hits, loads: needed - hits };
}

function sum(replays: readonly Replay[]): Replay {
  return replays.reduce((a, b) => ({ needed: a.needed + b.needed, hits: a.hits + b.hits, loads: a.loads + b.loads }));
}

describe("ExpertCache", () => {
  it("beats least-recently-used on the trained model's routing, with prefetch still more", async () => {
    const layers = await recorded();
    expect(layers.length).toBe(5);
    expect(layers.every((visits) => visits.length === 832)).toBe(true);
    const lru = sum(layers.map((visits) => replayLru(visits, SLOTS)));
    const plain = sum(layers.map((visits) => replay(visits, new ExpertCache(EXPERTS, SLOTS), false)));
    const prefetching = sum(layers.map((visits) => replay(visits, new ExpertCache(EXPERTS, SLOTS), true)));
    expect(lru.needed).toBe(5 * 832 * 4);
    // 34.2 %, 37.5 % and 40.1 % of what was needed was there.
    expect(plain.hits).toBeGreaterThan(lru.hits * 1.08);
    expect(plain.loads).toBeLessThan(lru.loads);
    expect(prefetching.hits).toBeGreaterThan(plain.hits * 1.05);
  });

  it("is least-recently-used when uses fade at once", async () => {
    const layers = await recorded();
    const lru = sum(layers.map((visits) => replayLru(visits, SLOTS)));
    const fading = sum(layers.map((visits) => replay(visits, new ExpertCache(EXPERTS, SLOTS, 0.001), false)));
    // Ties among the experts of one token are broken otherwise.
    expect(Math.abs(fading.hits - lru.hits)).toBeLessThan(lru.needed / 500);
  });

  it("never gives away the place of an expert that the call needs, nor holds one twice", async () => {
    const cache = new ExpertCache(EXPERTS, SLOTS);
    const held = new Map<number, number>();
    for (const visit of (await recorded()).flat()) {
      cache.use(visit);
      for (const { expert, slot } of cache.admit(visit)) held.set(slot, expert);
      for (const expert of visit) expect(held.get(cache.slotOf(expert) ?? -1)).toBe(expert);
    }
    expect(new Set(held.values()).size).toBe(SLOTS);
  });

  it("keeps what is used often over what was used once, and forgets a load that failed", () => {
    const cache = new ExpertCache(8, 2);
    for (let i = 0; i < 4; i++) {
      cache.use([1]);
      cache.admit([1]);
    }
    for (const once of [2, 3, 4]) {
      cache.use([once]);
      cache.admit([once]);
    }
    expect(cache.slotOf(1)).toBeDefined();
    expect(cache.slotOf(3)).toBeUndefined();
    cache.forget(1);
    expect(cache.slotOf(1)).toBeUndefined();
    expect(() => cache.admit([1, 2, 3])).toThrow("Cannot hold 3 experts in 2 places");
  });
});
