/**
 * What a peer does whose memory holds no layer whole: with helpers on its LAN it has layers all the same, or it is such a helper itself. One that could hold layers helps where a stage near by
 * waits for experts and finds that quicker.
 *
 * A stage that waits says so, and holds no layers as far as others are concerned. Helpers come to it; it measures the links, plans (`plan/experts.ts`) and asks them to hold what it planned.
 * Of two that both wait the one with the smaller name is the stage.
 */
import { type ModelCosts, modelCosts } from "@shoal/cluster";
import { type ExpertShard, expertBytes, shardActivationBytes, stagePlan } from "@shoal/model";
import { type Clock, pause } from "../clock.ts";
import type { Announcement } from "../control/announcement.ts";
import type { KnownPeer } from "../control/directory.ts";
import { SwarmError } from "../errors.ts";
import { Helpers } from "../experts/helpers.ts";
import type { HeldExperts, Offer } from "../experts/messages.ts";
import type { Link } from "../link/link.ts";
import { type DeviceSpeed, LAN_RTT_MS, type Sharing as SharingPlan, shareExperts } from "../plan/experts.ts";
import { type LayerRange, gaps } from "../plan/range.ts";
import type { SwarmMember } from "./entry.ts";
import { Helping } from "./helping.ts";
import type { StageSizes } from "./stageHost.ts";

const LOOK_MS = 1000;
/** Until somebody who did not want help is asked again. */
const ASK_AGAIN_MS = 20_000;

export interface SharingOptions {
  readonly member: SwarmMember;
  readonly clock: Clock;
  readonly memoryBytes: number;
  readonly sizes: Omit<StageSizes, "mtp">;
  /** Of weights but routed experts, KV cache and activations. */
  readonly stageBytes: (layers: LayerRange) => number;
  /** Of the same with all routed experts. */
  readonly wholeBytes: (layers: LayerRange) => number;
  readonly measure: () => Promise<DeviceSpeed>;
  /** Routed experts for another's stage, in place of what was loaded before. */
  readonly loadExperts: (held: HeldExperts, signal: AbortSignal) => Promise<ExpertShard>;
  /** Something to be announced at once. */
  readonly onChange: () => void;
  /** It waits, and why. */
  readonly onWait: (why: string) => void;
}

/** A stage some of whose experts are held by others. */
export interface HelpedStage extends Pick<SharingPlan, "layers" | "own"> {
  readonly experts: ExpertShard;
}

export class Sharing {
  readonly #options: SharingOptions;
  readonly #helpers: Helpers;
  readonly #costs: ModelCosts;
  readonly #expertBytes: (layers: LayerRange) => number;
  /** Of a shard besides its experts. */
  readonly #shardBytes: number;
  readonly #refused = new Map<string, { readonly at: number; readonly why: string }>();
  #speed: Promise<DeviceSpeed> | undefined;
  #stage: HelpedStage | undefined;
  #claimed: LayerRange | undefined;

  constructor(options: SharingOptions) {
    this.#options = options;
    const { member, clock, onChange } = options;
    const { checkpoint, peers } = member;
    const { hiddenSize, nActivatedExperts, nDenseLayers } = checkpoint.config;
    this.#costs = modelCosts(checkpoint.config);
    this.#expertBytes = (layers) => expertBytes(checkpoint, layers);
    this.#shardBytes = shardActivationBytes(checkpoint);
    this.#helpers = new Helpers({
      clock,
      hiddenSize,
      slots: nActivatedExperts,
      nDenseLayers,
      expertBytes: this.#expertBytes,
      onLie: (peer, reason) => peers.ban(peer, reason),
      // As it says that holds nothing any more.
      isLeaving: (peer) => peers.directory.get(peer)?.state === "client",
      onChange,
    });
  }

  /** Whether some of the stage's experts are held by nobody. */
  get isBroken(): boolean {
    return this.#helpers.isBroken;
  }

  /** Layers whose experts others are loading. */
  get claimed(): LayerRange | undefined {
    return this.#claimed;
  }

  /** For the announcement; undefined where nothing is shared, or wanted. */
  get announced(): Announcement["experts"] {
    const { isWanting: wanted } = this.#helpers;
    if (!this.#stage && !wanted) return undefined;
    const { layers = null, own = 0 } = this.#stage ?? {};
    return { layers, own, helpers: this.#helpers.holders().slice(0, 32), wanted };
  }

  /** A link by which another peer offers its help. */
  accept(link: Link): void {
    this.#helpers.accept(link);
  }

  /** While the stage serves, or waits for experts that it lost. */
  tend(): void {
    if (this.#stage) this.#helpers.tend();
  }

  /** Lets helpers go. */
  end(): void {
    this.#stage = undefined;
    this.#helpers.want(undefined);
    this.#helpers.close("this peer has no such layers any more");
  }

  /** Whether this peer could be of any use though no layer fits it whole. */
  get isPossible(): boolean {
    const { member } = this.#options;
    const { nLayers } = member.checkpoint.config;
    return Array.from({ length: nLayers }, (_, begin) => ({ begin, end: begin + 1 })).some(
      (layer) => this.#expertBytes(layer) > 0 && (this.#fitsStage(layer) || this.#expertRoom >= this.#expertBytes(layer)),
    );
  }

  /**
   * @param alone layers that it could hold whole; undefined: none
   * @returns a part in a stage that is shared; undefined where it is to hold layers whole. Where it can hold none it waits for either.
   */
  async seek(alone: LayerRange | undefined, signal: AbortSignal): Promise<HelpedStage | Helping | undefined> {
    this.#stage = undefined;
    const { peers } = this.#options.member;
    for (;;) {
      if (peers.expelled)
        throw new SwarmError("not-a-member", "Cannot go on: this peer, or the invite by which it came, was expelled from the swarm");
      const gap = this.#gap();
      this.#helpers.want(alone || !gap || !this.#fitsStage({ begin: gap.begin, end: gap.begin + 1 }) ? undefined : gap);
      if (!alone) this.#options.onChange();
      for (const { peer } of this.#candidates(alone !== undefined)) {
        const helping = await this.#offer(peer, signal);
        if (!helping) continue;
        this.end();
        return helping;
      }
      if (alone) return undefined;
      const stage = gap && (await this.#gather(gap, signal));
      if (stage) return stage;
      this.#options.onWait(this.#why(gap));
      await pause(this.#options.clock, LOOK_MS, signal);
    }
  }

  /** Plans with those who offer, and has them load. */
  async #gather(gap: LayerRange, signal: AbortSignal): Promise<HelpedStage | undefined> {
    const { memoryBytes, stageBytes, member, sizes } = this.#options;
    const helpers = this.#helpers.offers();
    if (helpers.length === 0) return undefined;
    const { maxTokens } = stagePlan(member.checkpoint.config, sizes);
    // Its own experts are a shard too.
    const ownBytes = shardActivationBytes(member.checkpoint, maxTokens);
    const plan = shareExperts({
      model: this.#costs,
      gap,
      bytes: (layers, experts) => stageBytes(layers) + (experts > 0 ? ownBytes + experts * this.#expertBytes(layers) : 0),
      memoryBytes,
      expertBytes: this.#expertBytes,
      device: await this.#measured(),
      helpers,
    });
    for (const { peer, rttMs } of helpers) if (rttMs > LAN_RTT_MS) this.#refuse(peer, `${peer.slice(-8)} is ${rttMs.toFixed(1)} ms away`);
    this.#helpers.dismiss(plan);
    if (!plan) return undefined;
    const ending = (): void => this.#helpers.close("this peer leaves");
    signal.addEventListener("abort", ending, { once: true });
    try {
      this.#claimed = plan.layers;
      this.#options.onChange();
      const experts = await this.#helpers.hold(plan, maxTokens);
      this.#stage = { layers: plan.layers, own: plan.own, experts };
      return this.#stage;
    } catch {
      signal.throwIfAborted();
      return undefined;
    } finally {
      this.#claimed = undefined;
      signal.removeEventListener("abort", ending);
    }
  }

  async #offer(peer: string, signal: AbortSignal): Promise<Helping | undefined> {
    const { member, clock, memoryBytes, loadExperts } = this.#options;
    const outcome = await Helping.begin(
      { member, clock, peer, memoryBytes, offer: (gap) => this.#offered(gap), load: loadExperts },
      signal,
    );
    if (outcome instanceof Helping) return outcome;
    this.#refuse(peer, `${peer.slice(-8)}: ${outcome.message}`);
    return undefined;
  }

  async #offered(gap: LayerRange): Promise<Offer> {
    const { memoryBytes, wholeBytes } = this.#options;
    let end = gap.begin;
    while (end < gap.end && wholeBytes({ begin: gap.begin, end: end + 1 }) <= memoryBytes) end++;
    return { memoryBytes: this.#expertRoom, alone: end - gap.begin, ...(await this.#measured()) };
  }

  /** Those who want help; one that holds layers of its own only goes to whom it makes a stage. */
  #candidates(hasOwn: boolean): readonly KnownPeer[] {
    const { member, clock } = this.#options;
    if (this.#expertRoom <= 0) return [];
    const now = clock.now();
    return member.peers.directory.peers().filter(({ peer, state, experts }) => {
      if (experts?.wanted !== true || now - (this.#refused.get(peer)?.at ?? Number.NEGATIVE_INFINITY) < ASK_AGAIN_MS) return false;
      if (hasOwn) return state === "waiting";
      return experts.layers !== null || !this.#helpers.isWanting || peer < member.peers.id;
    });
  }

  get #expertRoom(): number {
    return Math.max(0, this.#options.memoryBytes - this.#shardBytes);
  }

  #fitsStage(layers: LayerRange): boolean {
    return this.#options.stageBytes(layers) <= this.#options.memoryBytes;
  }

  #gap(): LayerRange | undefined {
    const { peers, checkpoint } = this.#options.member;
    const held = peers.directory.peers().flatMap(({ layers, state }) => (layers && state !== "leaving" ? [layers] : []));
    return gaps(checkpoint.config.nLayers, held)[0];
  }

  #measured(): Promise<DeviceSpeed> {
    this.#speed ??= this.#options.measure();
    return this.#speed;
  }

  #refuse(peer: string, why: string): void {
    this.#refused.set(peer, { at: this.#options.clock.now(), why });
  }

  #why(gap: LayerRange | undefined): string {
    if (!gap) return "every layer is held, and nobody near by wants help";
    const tried = [...this.#refused.values()].map(({ why }) => why).join("; ");
    return `no layer fits its memory whole, and nobody within ${LAN_RTT_MS} ms shares its experts${tried === "" ? "" : ` (${tried})`}`;
  }
}
