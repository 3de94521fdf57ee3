/**
 * Through which peers a token goes: the quickest chain of ranges from the first layer to the last. Pure. The cost of a chain is what a decode step takes: half a round trip to the first
 * peer, from each to the next, and back from the last, and each peer's own time, longer the busier it is. Where two have not measured the way between them, it is taken to be as
 * long as by way of the client. (As Petals' sequence manager, with measured round trips in place of a constant.)
 */
import type { KnownPeer } from "../control/directory.ts";
import type { LayerRange } from "./range.ts";

export interface Hop {
  readonly peer: string;
  readonly layers: LayerRange;
}

export interface PathQuestion {
  readonly nLayers: number;
  readonly peers: readonly KnownPeer[];
  /** Measured by the client; absent where it has no link yet. */
  readonly rttMs: (peer: string) => number | undefined;
  /** Not these: lost a moment ago, or under suspicion. */
  readonly without?: ReadonlySet<string>;
  /** Only this part of the model, for one that is to be replaced. */
  readonly layers?: LayerRange;
  /** Room that the sequence needs. */
  readonly kvTokens?: number;
}

/** Of a peer to which nobody has measured it: a connection across a continent. */
export const UNKNOWN_RTT_MS = 60;
/** What a peer without room costs: more than any detour. */
const NO_ROOM_MS = 10_000;

/** Undefined where no chain exists. */
export function choosePath({ nLayers, peers, rttMs, without = new Set(), layers, kvTokens = 0 }: PathQuestion): readonly Hop[] | undefined {
  const { begin: first, end: last } = layers ?? { begin: 0, end: nLayers };
  const usable = peers
    .filter(({ peer, state, layers: held }) => held && state === "serving" && !without.has(peer) && held.begin >= first && held.end <= last)
    .flatMap((peer) => (peer.layers ? [{ ...peer, layers: peer.layers }] : []))
    .sort((a, b) => a.layers.begin - b.layers.begin);
  const halfWay = (peer: string): number => (rttMs(peer) ?? UNKNOWN_RTT_MS) / 2;
  const halfBetween = (one: KnownPeer, other: KnownPeer): number => {
    const measured = one.rtts[other.peer] ?? other.rtts[one.peer];
    return measured === undefined ? halfWay(one.peer) + halfWay(other.peer) : measured / 2;
  };
  // Ranges only lead onwards, so one pass in the order of their beginnings finds the best chain that ends with each peer.
  const chains = new Map<number, Chain[]>();
  for (const one of usable) {
    const { peer, layers: held, stepMs, load, freeKvTokens } = one;
    const before: Pick<Chain, "cost" | "hops">[] = held.begin === first ? [{ cost: halfWay(peer), hops: [] }] : [];
    for (const chain of chains.get(held.begin) ?? []) before.push({ cost: chain.cost + halfBetween(chain.last, one), hops: chain.hops });
    const best = cheapest(before);
    if (!best) continue;
    const cost = best.cost + stepMs * (1 + load) + (freeKvTokens < kvTokens ? NO_ROOM_MS : 0);
    const ends = chains.get(held.end) ?? [];
    chains.set(held.end, [...ends, { cost, last: one, hops: [...best.hops, { peer, layers: held }] }]);
  }
  return cheapest((chains.get(last) ?? []).map(({ cost, hops, last: { peer } }) => ({ cost: cost + halfWay(peer), hops })))?.hops;
}

interface Chain {
  readonly cost: number;
  readonly hops: readonly Hop[];
  readonly last: KnownPeer;
}

function cheapest<C extends { readonly cost: number }>(all: readonly C[]): C | undefined {
  return all.reduce<C | undefined>((best, one) => (best && best.cost <= one.cost ? best : one), undefined);
}
