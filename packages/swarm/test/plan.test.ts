import { describe, expect, test } from "vitest";
import { choosePath } from "../src/plan/path.ts";
import { type LayerRange, chooseRange, gaps, missingLayers } from "../src/plan/range.ts";
import type { KnownPeer } from "../src/control/directory.ts";
import { MODEL, serving } from "./swarmFixture.ts";

function peer(name: string, begin: number, end: number, more: Partial<KnownPeer> = {}): KnownPeer {
  return { ...serving(begin, end), peer: name, model: MODEL, number: 1, rtts: {}, heardAt: 0, ...more };
}

/** A layer takes a byte, embedding and head one more each. */
const bytes =
  (nLayers: number) =>
  ({ begin, end }: LayerRange): number =>
    end - begin + (begin === 0 ? 1 : 0) + (end === nLayers ? 1 : 0);

describe("chooseRange()", () => {
  test("fills gaps from their beginning, as far as memory goes", () => {
    const choose = (memoryBytes: number, peers: readonly KnownPeer[]) => chooseRange({ nLayers: 12, bytes: bytes(12), memoryBytes, peers });
    expect(choose(5, [])).toEqual({ begin: 0, end: 4 });
    expect(choose(5, [peer("a", 0, 4)])).toEqual({ begin: 4, end: 9 });
    expect(choose(5, [peer("a", 0, 4), peer("c", 7, 12)])).toEqual({ begin: 4, end: 7 });
    expect(choose(100, [])).toEqual({ begin: 0, end: 12 });
    expect(choose(0, [])).toBeUndefined();
  });

  test("takes the range that is served most slowly where nothing is missing", () => {
    const peers = [peer("a", 0, 6, { stepMs: 10 }), peer("b", 6, 12, { stepMs: 40 }), peer("c", 0, 6, { stepMs: 40 })];
    expect(chooseRange({ nLayers: 12, bytes: bytes(12), memoryBytes: 8, peers })).toEqual({ begin: 6, end: 12 });
    expect(chooseRange({ nLayers: 12, bytes: bytes(12), memoryBytes: 8, peers: [...peers, peer("d", 6, 12, { stepMs: 5 })] })).toEqual({
      begin: 0,
      end: 6,
    });
  });

  test("peers that come one after the other, of any sizes, always make a chain; those that leave are replaced", () => {
    let state = 5;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let round = 0; round < 25; round++) {
      const nLayers = 1 + random(61);
      let peers: KnownPeer[] = [];
      for (let i = 0; i < 100; i++) {
        if (random(4) === 0) peers = peers.filter(() => random(8) !== 0);
        const range = chooseRange({ nLayers, bytes: bytes(nLayers), memoryBytes: 3 + random(20), peers });
        if (!range) throw new Error("no range");
        expect(range.begin).toBeLessThan(range.end);
        expect(range.end).toBeLessThanOrEqual(nLayers);
        peers.push(peer(`p${i}`, range.begin, range.end));
      }
      // Nobody leaves any more: whoever comes now closes what is open.
      for (
        let i = 0;
        i < nLayers &&
        gaps(
          nLayers,
          peers.flatMap(({ layers }) => layers ?? []),
        ).length > 0;
        i++
      ) {
        const range = chooseRange({ nLayers, bytes: bytes(nLayers), memoryBytes: 3, peers });
        if (range) peers.push(peer(`q${i}`, range.begin, range.end));
      }
      expect(
        gaps(
          nLayers,
          peers.flatMap(({ layers }) => layers ?? []),
        ),
      ).toEqual([]);
      expect(choosePath({ nLayers, peers, rttMs: () => 10 })).toBeDefined();
    }
  });

  test("those who leave do not count, those who claim do", () => {
    const peers = [peer("a", 0, 6, { state: "leaving" }), peer("b", 0, 3, { state: "claiming" })];
    expect(chooseRange({ nLayers: 6, bytes: bytes(6), memoryBytes: 100, peers })).toEqual({ begin: 3, end: 6 });
  });
});

describe("gaps() and missingLayers()", () => {
  test("a layer that nothing leads up to is a gap although somebody holds it", () => {
    expect(
      gaps(6, [
        { begin: 0, end: 4 },
        { begin: 2, end: 6 },
      ]),
    ).toEqual([{ begin: 4, end: 6 }]);
    expect(
      missingLayers(6, [
        { begin: 0, end: 4 },
        { begin: 2, end: 6 },
      ]),
    ).toEqual([]);
    expect(missingLayers(6, [{ begin: 1, end: 3 }])).toEqual([0, 3, 4, 5]);
  });
});

describe("choosePath()", () => {
  const rtts: Record<string, number> = { near: 2, far: 100, tail: 10, whole: 50 };
  const rttMs = (name: string) => rtts[name];

  test("weighs round trips, speed and load", () => {
    const peers = [peer("near", 0, 3), peer("far", 0, 3), peer("tail", 3, 6), peer("whole", 0, 6, { stepMs: 20 })];
    const names = (question: Partial<Parameters<typeof choosePath>[0]> = {}) =>
      choosePath({ nLayers: 6, peers, rttMs, ...question })?.map(({ peer }) => peer);
    expect(names()).toEqual(["near", "tail"]);
    expect(names({ peers: peers.map((one) => (one.peer === "tail" ? { ...one, load: 9 } : one)) })).toEqual(["whole"]);
    expect(names({ without: new Set(["near", "whole"]) })).toEqual(["far", "tail"]);
    expect(names({ without: new Set(["tail", "whole"]) })).toBeUndefined();
    expect(names({ layers: { begin: 3, end: 6 } })).toEqual(["tail"]);
    expect(names({ kvTokens: 100, peers: peers.map((one) => (one.peer === "near" ? { ...one, freeKvTokens: 10 } : one)) })).toEqual([
      "whole",
    ]);
  });

  test("prefers those that reach one another quickly", () => {
    const peers = [peer("tail", 3, 6), peer("near", 0, 3), peer("far", 0, 3, { rtts: { tail: 1 } })];
    const names = (known: typeof peers) => choosePath({ nLayers: 6, peers: known, rttMs: () => 40 })?.map(({ peer }) => peer);
    expect(names(peers)).toEqual(["far", "tail"]);
    expect(names([peer("tail", 3, 6, { rtts: { near: 0.5 } }), ...peers.slice(1)])).toEqual(["near", "tail"]);
  });

  test("is the best of all chains, found by trying them", () => {
    let state = 11;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    for (let round = 0; round < 300; round++) {
      const nLayers = 4;
      const peers = Array.from({ length: 8 }, (_, i) => {
        const begin = random(nLayers);
        const rtts = Object.fromEntries(Array.from({ length: random(4) }, () => [`p${random(8)}`, random(100)]));
        return peer(`p${i}`, begin, begin + 1 + random(nLayers - begin), { stepMs: random(50), load: random(3), rtts });
      });
      const rtt = new Map(peers.map(({ peer }) => [peer, random(100)]));
      const half = (from: string | undefined, to: string | undefined): number => {
        if (from === undefined || to === undefined) return (rtt.get(from ?? to ?? "") ?? 0) / 2;
        const known = (one: string): Readonly<Record<string, number>> => peers.find(({ peer: name }) => name === one)?.rtts ?? {};
        const measured = known(from)[to] ?? known(to)[from];
        return measured === undefined ? half(from, undefined) + half(undefined, to) : measured / 2;
      };
      const cost = (path: readonly { peer: string }[]): number =>
        path.reduce(
          (sum, { peer: name }, index) => {
            const { stepMs, load } = peers.find((one) => one.peer === name) ?? { stepMs: 0, load: 0 };
            return sum + half(path[index - 1]?.peer, name) + stepMs * (1 + load);
          },
          half(path.at(-1)?.peer, undefined),
        );
      const chains = (at: number): { peer: string }[][] =>
        at === nLayers
          ? [[]]
          : peers.flatMap((one) => (one.layers?.begin === at ? chains(one.layers.end).map((rest) => [{ peer: one.peer }, ...rest]) : []));
      const all = chains(0).map(cost);
      const found = choosePath({ nLayers, peers, rttMs: (name) => rtt.get(name) });
      if (all.length === 0) expect(found).toBeUndefined();
      else expect(cost(found ?? [])).toBeCloseTo(Math.min(...all), 9);
    }
  });
});
