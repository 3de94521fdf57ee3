/**
 * Which layers a peer should hold: what the swarm needs most. Pure. Ranges begin and end where others end and begin, so that they chain: a gap is filled from its beginning, and
 * where there is none, the range that is served most slowly gets another holder.
 */
import type { Announcement } from "../control/announcement.ts";

export interface LayerRange {
  readonly begin: number;
  readonly end: number;
}

export interface RangeQuestion {
  readonly nLayers: number;
  /** Bytes that a stage of these layers takes: weights, KV cache, activations. */
  readonly bytes: (range: LayerRange) => number;
  readonly memoryBytes: number;
  /** The others, claims included. */
  readonly peers: readonly Pick<Announcement, "layers" | "stepMs" | "load" | "state">[];
}

/** Undefined where not even one layer fits. */
export function chooseRange({ nLayers, bytes, memoryBytes, peers }: RangeQuestion): LayerRange | undefined {
  const fits = (range: LayerRange): boolean => range.end > range.begin && bytes(range) <= memoryBytes;
  const held = peers.flatMap((peer) => (peer.layers && peer.state !== "leaving" ? [{ ...peer.layers, peer }] : []));
  for (const gap of gaps(nLayers, held)) {
    const range = longest(gap, fits);
    if (range) return range;
  }
  // Layers of a token a second that pass through each: the least is what the swarm's throughput is.
  const ranges = distinct(held).filter((range) => fits(range));
  const speed = (range: LayerRange): number =>
    held
      .filter(({ begin, end }) => begin <= range.begin && end >= range.end)
      .reduce((sum, { begin, end, peer }) => sum + (end - begin) / Math.max(1, peer.stepMs) / (1 + peer.load), 0);
  const [weakest] = ranges.sort((a, b) => speed(a) - speed(b) || a.begin - b.begin || a.end - b.end);
  if (weakest) return weakest;
  // All ranges are too large: a part of the first one at least helps others to fill the rest.
  return Array.from({ length: nLayers }, (_, begin) => longest({ begin, end: nLayers }, fits)).find((range) => range !== undefined);
}

/**
 * Runs of layers that no path goes through, in order. A layer counts as held only by ranges that can be reached from the first layer by a chain: one that nothing leads up to
 * serves nobody.
 */
export function gaps(nLayers: number, held: readonly LayerRange[]): readonly LayerRange[] {
  const reached = new Set([0]);
  for (let layer = 0; layer < nLayers; layer++) {
    if (!reached.has(layer)) continue;
    for (const { begin, end } of held) if (begin === layer) reached.add(end);
  }
  if (reached.has(nLayers)) return [];
  // From the end: where a chain to the last layer begins.
  const leads = new Set([nLayers]);
  for (let layer = nLayers; layer > 0; layer--) {
    if (!leads.has(layer)) continue;
    for (const { begin, end } of held) if (end === layer) leads.add(begin);
  }
  const begin = Math.max(...reached);
  const end = Math.min(...[...leads].filter((layer) => layer > begin));
  return [{ begin, end }];
}

/**
 * For a peer that leaves: whether all layers are served without it (`done`), or somebody is about to take some, or could, because it is idle and others hold its own too
 * (`hoped`), or neither (`none`).
 * @param peers the others
 */
export function succession(nLayers: number, peers: readonly Pick<Announcement, "layers" | "state" | "load">[]): "done" | "hoped" | "none" {
  const others = peers.flatMap(({ layers, state, load }) => (layers && state !== "leaving" ? [{ ...layers, state, load }] : []));
  const serving = others.filter(({ state }) => state === "serving");
  if (gaps(nLayers, serving).length === 0) return "done";
  const lacks = (held: readonly LayerRange[]): string => JSON.stringify(gaps(nLayers, held));
  const isFree = (one: (typeof others)[number]): boolean =>
    one.load === 0 && lacks(others.filter((other) => other !== one)) === lacks(others);
  return others.some((one) => one.state === "claiming" || isFree(one)) ? "hoped" : "none";
}

/** Layers without a holder, for people. */
export function missingLayers(nLayers: number, held: readonly LayerRange[]): readonly number[] {
  return Array.from({ length: nLayers }, (_, layer) => layer).filter(
    (layer) => !held.some(({ begin, end }) => begin <= layer && layer < end),
  );
}

function longest({ begin, end }: LayerRange, fits: (range: LayerRange) => boolean): LayerRange | undefined {
  for (let last = end; last > begin; last--) if (fits({ begin, end: last })) return { begin, end: last };
  return undefined;
}

function distinct(ranges: readonly LayerRange[]): LayerRange[] {
  return [...new Map(ranges.map(({ begin, end }) => [`${begin}-${end}`, { begin, end }])).values()];
}
