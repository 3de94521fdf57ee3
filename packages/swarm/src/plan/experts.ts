/**
 * Whether peers near by hold a part of a stage's routed experts, and which. Pure. A path's hop costs a token half a round trip; experts elsewhere cost it a readback and a whole round trip
 * in each MoE layer. So helpers are taken where the way to them is that of a LAN, and where the stage could hold no layer without them, or is quicker with them than they are alone over the
 * same link.
 */
import { CostModel, DEFAULT_WORKLOAD, type Device, Links, type ModelCosts } from "@shoal/cluster";
import type { LayerRange } from "./range.ts";

/** There and back. A MoE layer of DeepSeek-V3 keeps a device that reads 100 GB/s busy for as long: beyond it links would take longer than what is computed. */
export const LAN_RTT_MS = 5;
/** Arithmetic for each byte that is read, where nobody has measured it: a plan for decoding hardly asks. */
const FLOPS_PER_BYTE = 50;
/** Dispatches of a layer. */
const LAYER_SECONDS = 0.0002;

/** As measured on the device. */
export interface DeviceSpeed {
  readonly bytesPerSecond: number;
  readonly readbackMs: number;
}

export interface ExpertRange {
  readonly begin: number;
  readonly end: number;
}

/** A peer that would hold experts, as it says, and the link to it, as measured. */
export interface HelperOffer extends DeviceSpeed {
  readonly peer: string;
  /** For experts. */
  readonly memoryBytes: number;
  /** How many of the missing layers it could hold by itself, whole, from the first on. */
  readonly alone: number;
  readonly rttMs: number;
  readonly linkBytesPerSecond: number;
}

export interface SharingQuestion {
  readonly model: ModelCosts;
  /** Layers that nobody holds. */
  readonly gap: LayerRange;
  /** What the stage takes with so many experts of each of its MoE layers. */
  readonly bytes: (layers: LayerRange, experts: number) => number;
  readonly memoryBytes: number;
  /** Of one expert of each MoE layer of these. */
  readonly expertBytes: (layers: LayerRange) => number;
  readonly device: DeviceSpeed;
  readonly helpers: readonly HelperOffer[];
}

export interface Sharing {
  readonly layers: LayerRange;
  /** Experts of each MoE layer that the stage has itself, from the first on. */
  readonly own: number;
  /** The others, without a gap. */
  readonly pieces: readonly (ExpertRange & { readonly peer: string })[];
}

/** The most layers that the stage can hold with helpers that are near enough; undefined where there are none, or it had better not. */
export function shareExperts(question: SharingQuestion): Sharing | undefined {
  const near = question.helpers.filter(({ rttMs }) => rttMs <= LAN_RTT_MS).sort((a, b) => a.rttMs - b.rttMs || (a.peer < b.peer ? -1 : 1));
  const { begin, end: last } = question.gap;
  for (let end = last; near.length > 0 && end > begin; end--) {
    const sharing = shareLayers(question, { begin, end }, near);
    if (sharing) return sharing;
  }
  return undefined;
}

function shareLayers(question: SharingQuestion, layers: LayerRange, near: readonly HelperOffer[]): Sharing | undefined {
  const { model, memoryBytes } = question;
  const each = question.expertBytes(layers);
  const free = memoryBytes - question.bytes(layers, 0);
  // Without MoE layers there is nothing to give away.
  if (each === 0 || free < 0) return undefined;
  let own = Math.min(model.nRoutedExperts, Math.floor(free / each));
  while (own > 0 && question.bytes(layers, own) > memoryBytes) own--;
  const costs = costModel(question, near);
  const helpers = near.filter((helper) => isBetterThanAlone(question, costs, layers, own, helper));
  const rooms = [own, ...helpers.map((helper) => Math.floor(helper.memoryBytes / each))];
  const stage = { device: stageDevice(question.device), helpers: helpers.map((helper) => helperDevice(helper)), ...layers };
  const cost = helpers.length > 0 ? costs.spread(stage, rooms) : undefined;
  if (!cost) return undefined;
  let at = cost.experts[0] ?? 0;
  const pieces = helpers.flatMap(({ peer }, index) => {
    const count = cost.experts[index + 1] ?? 0;
    if (count === 0) return [];
    at += count;
    return [{ peer, begin: at - count, end: at }];
  });
  return { layers, own: cost.experts[0] ?? 0, pieces };
}

/** Whether a layer takes a token less with this helper's help than on the helper alone, one hop away over the same link; where it can hold none alone, there is nothing to compare. */
function isBetterThanAlone(question: SharingQuestion, costs: CostModel, layers: LayerRange, own: number, helper: HelperOffer): boolean {
  const { begin } = layers;
  const count = Math.min(helper.alone, layers.end - begin);
  if (count === 0) return true;
  const all = question.model.nRoutedExperts;
  const device = stageDevice(question.device);
  const other = helperDevice(helper);
  // With as much room as both have together: others may bring the rest.
  const shared = costs.spread({ device, helpers: [other], ...layers }, [own, all]);
  const alone = costs.spread({ device: other, helpers: [], begin, end: begin + count }, [all]);
  if (!shared || !alone) return false;
  return shared.decodeSeconds / (layers.end - begin) < (alone.decodeSeconds + costs.hopSeconds(device, other, 1)) / count;
}

const STAGE = "the stage";

function stageDevice({ bytesPerSecond, readbackMs }: DeviceSpeed): Device {
  return {
    name: STAGE,
    memoryBytes: Number.MAX_VALUE,
    bytesPerSecond,
    flopsPerSecond: bytesPerSecond * FLOPS_PER_BYTE,
    layerSeconds: LAYER_SECONDS,
    stepSeconds: 0,
    readbackSeconds: readbackMs / 1000,
  };
}

function helperDevice(helper: HelperOffer): Device {
  return { ...stageDevice(helper), name: helper.peer };
}

function costModel({ model }: SharingQuestion, helpers: readonly HelperOffer[]): CostModel {
  const links = helpers.map(({ peer, rttMs, linkBytesPerSecond }) => ({
    between: [STAGE, peer] as [string, string],
    latencySeconds: rttMs / 2000,
    bytesPerSecond: linkBytesPerSecond,
  }));
  return new CostModel(model, new Links({ links }), DEFAULT_WORKLOAD);
}
