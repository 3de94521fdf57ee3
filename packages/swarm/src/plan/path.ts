/**
 * Through which peers a token goes: the quickest chain of ranges from the first layer to the last. Pure. The cost of a chain is what a decode step takes: half a round trip into
 * each peer and out of it, and the peer's own time, longer the busier it is. (As Petals' sequence manager, with measured round trips in place of a constant.)
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
  interface Best {
    readonly cost: number;
    readonly hops: readonly Hop[];
  }
  const best = new Map<number, Best>([[first, { cost: 0, hops: [] }]]);
  const usable = peers
    .filter(({ peer, state, layers: held }) => held && state === "serving" && !without.has(peer) && held.begin >= first && held.end <= last)
    .flatMap((peer) => (peer.layers ? [{ ...peer, layers: peer.layers }] : []))
    .sort((a, b) => a.layers.begin - b.layers.begin);
  // Ranges only lead onwards, so one pass in the order of their beginnings finds the best chain to each boundary.
  for (const { peer, layers: held, stepMs, load, freeKvTokens } of usable) {
    const before = best.get(held.begin);
    if (!before) continue;
    const cost = before.cost + (rttMs(peer) ?? UNKNOWN_RTT_MS) + stepMs * (1 + load) + (freeKvTokens < kvTokens ? NO_ROOM_MS : 0);
    const known = best.get(held.end);
    if (!known || cost < known.cost) best.set(held.end, { cost, hops: [...before.hops, { peer, layers: held }] });
  }
  return best.get(last)?.hops;
}
