/**
 * Seconds and bytes of a plan. Decode at batch 1 is a sum: each stage reads its weights and dispatches its kernels, each hop waits for a link, each MoE layer whose experts are spread waits for the slowest of them.
 * Prefill is arithmetic, with several chunks in flight: the slowest stage or hop sets the pace.
 *
 * Experts of a stage are spread so that the slowest member is as fast as it can be, memory permitting: one expert after the other goes to whoever is then done first. A router that
 * balances its experts makes the expected share of a member its share of the experts.
 */
import type { ActivationFormat } from "../wire/tensor.ts";
import type { Device, Links } from "./fleet.ts";
import type { ModelCosts } from "./modelCosts.ts";

export interface Workload {
  /** Longest sequence. */
  readonly contextTokens: number;
  /** Of all sequences together. */
  readonly kvTokens: number;
  /** Tokens in one step of a prefill. */
  readonly chunkTokens: number;
  /** Of the request whose time is to be least. */
  readonly promptTokens: number;
  readonly newTokens: number;
  /** How hidden states travel. */
  readonly activations: ActivationFormat;
  /** How many of a stage's devices have each of its experts, where it has helpers: more than one, and a lost device's part goes to others at once, without its weights being read again. */
  readonly replicas: number;
}

/** Of one activation on its way; FP8 has an f32 scale for each 128. */
const ACTIVATION_BYTES: Readonly<Record<ActivationFormat, number>> = { f32: 4, f16: 2, fp8: 1 + 4 / 128 };

export const DEFAULT_WORKLOAD: Workload = {
  contextTokens: 4096,
  kvTokens: 4096,
  chunkTokens: 256,
  promptTokens: 512,
  newTokens: 256,
  activations: "f32",
  replicas: 1,
};

/** Who computes some layers: a stage, and helpers that have some of its experts. */
export interface StageChoice {
  readonly device: Device;
  readonly helpers: readonly Device[];
  readonly begin: number;
  readonly end: number;
}

export interface StageCost {
  readonly decodeSeconds: number;
  readonly prefillSecondsPerToken: number;
  /** On the stage's device, experts of its own included. */
  readonly memoryBytes: number;
  /** How many experts of each MoE layer: the stage's own, then each helper's. They follow one another around the end, so that each is on as many devices as there are to be replicas. */
  readonly experts: readonly number[];
  /** On each helper. */
  readonly helperBytes: readonly number[];
}

export class CostModel {
  readonly model: ModelCosts;
  readonly work: Workload;
  readonly links: Links;
  readonly #known = new Map<string, Map<number, StageCost | undefined>>();

  readonly #keyOf: (device: Device) => string | number;

  /** @param keyOf the same for devices that cost the same everywhere */
  constructor(model: ModelCosts, links: Links, work: Workload, keyOf: (device: Device) => string | number = ({ name }) => name) {
    this.#keyOf = keyOf;
    this.model = model;
    this.links = links;
    this.work = work;
  }

  /** Undefined where it does not fit. */
  stage({ device, helpers, begin, end }: StageChoice): StageCost | undefined {
    return this.stageOf(device, helpers)(begin, end);
  }

  /**
   * As `stage`, where each member, the stage's device first, has room for so many experts of each MoE layer, and memory is the caller's business. Undefined where they have no room for
   * all.
   */
  spread(choice: StageChoice, rooms: readonly number[]): StageCost | undefined {
    return this.#stage(choice, rooms);
  }

  /** As `stage`, for many ranges of layers. Dense layers are all alike, and so are MoE layers: what differs is known by their numbers, and whether embedding and head are among them. */
  stageOf(device: Device, helpers: readonly Device[]): (begin: number, end: number) => StageCost | undefined {
    const { layers } = this.model;
    const count = layers.length;
    const dense = layers.filter(({ expertBytes }) => expertBytes === 0).length;
    const key = [device, ...helpers].map((each) => this.#keyOf(each)).join("\n");
    const known = this.#known.get(key) ?? new Map<number, StageCost | undefined>();
    this.#known.set(key, known);
    return (begin, end) => {
      const denseHere = Math.max(0, Math.min(end, dense) - begin);
      const shape = ((denseHere * (count + 1) + end - begin) * 2 + Number(begin === 0)) * 2 + Number(end === count);
      let cost = known.get(shape);
      if (cost === undefined && !known.has(shape)) {
        cost = this.#stage({ device, helpers, begin, end });
        known.set(shape, cost);
      }
      return cost;
    };
  }

  /** Of hidden states from one stage to the next, for so many tokens. */
  hopSeconds(from: Device, to: Device, tokens: number): number {
    return from.readbackSeconds + this.links.seconds(from, to, this.#activationBytes(tokens));
  }

  #activationBytes(rows: number): number {
    return rows * this.model.hiddenSize * ACTIVATION_BYTES[this.work.activations];
  }

  #copies(members: readonly Device[]): number {
    return Math.max(1, Math.min(this.work.replicas, members.length));
  }

  #stage({ device, helpers, begin, end }: StageChoice, rooms?: readonly number[]): StageCost | undefined {
    const { model, work } = this;
    const layers = model.layers.slice(begin, end);
    const isFirst = begin === 0;
    const isLast = end === model.layers.length;
    const moe = layers.filter(({ expertBytes }) => expertBytes > 0);
    const expertBytes = moe[0]?.expertBytes ?? 0;
    const read = layers.reduce((sum, { bytes }) => sum + bytes, 0) + (isLast ? model.headBytes : 0);
    const kv = layers.length * model.kvBytes;
    const fixed =
      read +
      (isFirst ? model.embeddingBytes : 0) +
      (isLast ? model.mtpBytes : 0) +
      kv * work.kvTokens +
      model.activationBytes * work.chunkTokens;
    if (!rooms && fixed > device.memoryBytes) return undefined;
    const members = [device, ...helpers];
    const bytesOfEach = moe.length * expertBytes;
    const share = this.#spread(
      members,
      rooms ?? members.map(({ memoryBytes }, index) => Math.floor((memoryBytes - (index === 0 ? fixed : 0)) / bytesOfEach)),
      expertBytes,
    );
    if (!share) return undefined;

    const dispatching = device.stepSeconds + layers.length * device.layerSeconds;
    const decodeFixed = (read + (kv * work.contextTokens) / 2) / device.bytesPerSecond + dispatching;
    const decodeExperts = moe.length > 0 ? moe.length * this.#expertSeconds(members, share, expertBytes, 1) : 0;
    // Attention over the context is as the context is long: half of it on the average, two products of all heads, which MLA shares.
    const flops = (bytes: number): number => (2 * bytes) / model.bytesPerParameter;
    const prefillFixed = flops(read) / device.flopsPerSecond + dispatching / work.chunkTokens;
    const prefillExperts =
      moe.length > 0 ? (moe.length * this.#expertSeconds(members, share, expertBytes, work.chunkTokens)) / work.chunkTokens : 0;
    const bytes = share.map((experts) => experts * moe.length * expertBytes);
    return {
      decodeSeconds: decodeFixed + decodeExperts,
      prefillSecondsPerToken: prefillFixed + prefillExperts,
      memoryBytes: fixed + (bytes[0] ?? 0),
      experts: share,
      helperBytes: bytes.slice(1),
    };
  }

  /** Experts of each member; undefined if they do not all fit. */
  #spread(members: readonly Device[], room: readonly number[], expertBytes: number): readonly number[] | undefined {
    const { nRoutedExperts } = this.model;
    if (expertBytes === 0) return members.map(() => 0);
    const counts = members.map(() => 0);
    const seconds = (index: number, count: number): number => this.#memberSeconds(members, index, count, expertBytes, 1);
    const copies = this.#copies(members);
    for (let placed = 0; placed < nRoutedExperts * copies; placed++) {
      let best = -1;
      let least = Number.POSITIVE_INFINITY;
      for (const [index, count] of counts.entries()) {
        if (count >= Math.min(nRoutedExperts, room[index] ?? 0)) continue;
        const after = seconds(index, count + 1);
        if (after >= least) continue;
        best = index;
        least = after;
      }
      if (best < 0) return undefined;
      counts[best] = (counts[best] ?? 0) + 1;
    }
    return counts;
  }

  /** A MoE layer's experts for so many rows: until the slowest member has answered. */
  #expertSeconds(members: readonly Device[], share: readonly number[], expertBytes: number, rows: number): number {
    return Math.max(...members.map((_, index) => this.#memberSeconds(members, index, share[index] ?? 0, expertBytes, rows)));
  }

  #memberSeconds(members: readonly Device[], index: number, count: number, expertBytes: number, rows: number): number {
    const { nRoutedExperts, nActivatedExperts, bytesPerParameter } = this.model;
    const stage = members[0];
    const member = members[index];
    if (!stage || !member || count === 0) return 0;
    // Replicas share what names their experts.
    const share = count / this.#copies(members) / nRoutedExperts;
    const picked = rows * nActivatedExperts * share;
    // Experts are read once each, however many rows name them.
    const read = Math.min(picked, count) * (expertBytes / member.bytesPerSecond);
    const computed = (picked * 2 * expertBytes) / bytesPerParameter / member.flopsPerSecond;
    const work = Math.max(read, computed);
    if (members.length === 1) return work;
    // The stage reads its rows back to give them away, and what it computes itself comes back the same way.
    if (index === 0) return 2 * stage.readbackSeconds + work;
    const named = rows * (1 - (1 - share) ** nActivatedExperts);
    const bytes = this.#activationBytes(named);
    return (
      stage.readbackSeconds +
      member.stepSeconds +
      work +
      member.readbackSeconds +
      this.links.seconds(stage, member, bytes) +
      this.links.seconds(member, stage, bytes)
    );
  }
}

export interface PlanCost {
  /** Of one token, nothing else running. */
  readonly decodeSeconds: number;
  readonly prefillSecondsPerToken: number;
  /** Of the workload's request. */
  readonly requestSeconds: number;
}

/** Undefined where it does not fit. */
export function planCost(costs: CostModel, stages: readonly StageChoice[]): PlanCost | undefined {
  const { work } = costs;
  let decode = 0;
  let pace = 0;
  let fill = 0;
  for (const [index, stage] of stages.entries()) {
    const cost = costs.stage(stage);
    if (!cost) return undefined;
    decode += cost.decodeSeconds;
    pace = Math.max(pace, cost.prefillSecondsPerToken);
    fill += index > 0 ? cost.prefillSecondsPerToken * work.chunkTokens : 0;
    const next = stages[index + 1] ?? stages[0];
    if (stages.length === 1 || !next) continue;
    const last = index === stages.length - 1;
    // The last stage gives a token, not hidden states.
    decode += last
      ? stage.device.readbackSeconds + costs.links.seconds(stage.device, next.device, 16)
      : costs.hopSeconds(stage.device, next.device, 1);
    if (!last) {
      const hop = costs.hopSeconds(stage.device, next.device, work.chunkTokens);
      pace = Math.max(pace, hop / work.chunkTokens);
      fill += hop;
    }
  }
  if (!Number.isFinite(decode) || !Number.isFinite(pace)) return undefined;
  const prompt = pace * work.promptTokens + fill * Math.min(1, work.promptTokens / work.chunkTokens);
  return { decodeSeconds: decode, prefillSecondsPerToken: pace, requestSeconds: prompt + decode * work.newTokens };
}
