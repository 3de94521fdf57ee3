/**
 * What a peer that contributes does: claims the layers that are needed most, loads them, serves whoever asks, and takes others where its own are held elsewhere and some are held
 * nowhere. What owns the device is a `StageHost`.
 */
import { kvBytesPerToken } from "@shoal/checkpoint";
import { type FrameChannel, asksForKv, remoteStage, stepTokens } from "@shoal/cluster";
import { type ExpertShard, type LayerRange, memoryRequirements, stagePlan, weightBytes } from "@shoal/model";
import { type Clock, SYSTEM_CLOCK, pause } from "../clock.ts";
import type { Announcement } from "../control/announcement.ts";
import { SwarmError } from "../errors.ts";
import type { HeldExperts } from "../experts/messages.ts";
import type { Link } from "../link/link.ts";
import { linkChannel } from "../link/linkChannel.ts";
import { PushLinks } from "../push/pushLinks.ts";
import { servePushing } from "../push/pushPort.ts";
import { maxPushBytes } from "../push/messages.ts";
import type { ExpertRange } from "../plan/experts.ts";
import { chooseRange, gaps, succession } from "../plan/range.ts";
import { type NeededParts, neededChunks } from "../weights/needed.ts";
import type { OwnStage } from "./client.ts";
import type { StageLink, SwarmMember } from "./entry.ts";
import { Helping } from "./helping.ts";
import { type HelpedStage, Sharing } from "./sharing.ts";
import type { StageHost, StageSizes } from "./stageHost.ts";
import { TokenMeter } from "./tokenMeter.ts";
import { warmUp } from "./warmUp.ts";

/** Full contexts that the KV cache holds at once. */
const FULL_CONTEXTS = 2;
/** Until everybody has been heard of, and until a claim has been. */
const LISTEN_MS = 1500;
const CLAIM_MS = 1200;
const LOOK_MS = 1000;
/** Looks in a row that must find the same before a peer moves: others may be about to. */
const LOOKS_BEFORE_MOVE = 4;
/** Chunks on their way at once: a page's storage takes long to open each, and peers are asked one thing after the other in any case. */
const FETCHES = 16;
/** For whoever takes its layers when it leaves: to notice, claim and load. */
const HANDOVER_MS = 60_000;
const MOVING_MS = 5000;
/** For those who use this peer then. */
const LEAVE_MS = 10_000;
const LEAVE_LOOK_MS = 100;
/** After somebody has asked for what this peer has of a conversation: there is more. */
const READING_MS = 3000;
/** Whoever is pushed to has nothing to say. */
const MAX_SAID_BY_TARGET = 4096;
/** Until a stage whose experts somebody else had, and nobody has any more, does something else. */
const BROKEN_MS = 30_000;

/** What it is at. */
export type ContributionPhase =
  | { readonly name: "choosing" }
  /** Weights are on their way. */
  | { readonly name: "fetching"; readonly layers: LayerRange; readonly bytes: number }
  | { readonly name: "loading"; readonly layers: LayerRange }
  | { readonly name: "serving"; readonly layers: LayerRange; readonly stepMs: number; readonly helpers?: readonly string[] }
  /** No layer fits, and nobody near by shares one: why. */
  | { readonly name: "waiting"; readonly why: string }
  /** It holds some experts of another's layers. */
  | { readonly name: "helping"; readonly peer: string; readonly layers: LayerRange; readonly experts: ExpertRange }
  /** Others hold its layers, and some are held by nobody. */
  | { readonly name: "moving" }
  | { readonly name: "leaving" };

export interface ContributionOptions {
  readonly member: SwarmMember;
  readonly host: StageHost;
  readonly memoryBytes: number;
  readonly contextTokens: number;
  readonly maxSequences: number;
  readonly kind: Announcement["kind"];
  /** Whether the MTP module is loaded with the last layers, where it fits: tokens are drafted then. */
  readonly drafts?: boolean;
  readonly onPhase?: (phase: ContributionPhase) => void;
  readonly clock?: Clock;
}

export class Contribution {
  readonly #options: ContributionOptions;
  readonly #sizes: Omit<StageSizes, "mtp">;
  readonly #clock: Clock;
  readonly #meter: TokenMeter;
  readonly #started = Date.now();
  readonly #users = new Set<Link>();
  readonly #pushes: PushLinks;
  readonly #sharing: Sharing;
  /** Whose experts it holds, instead of layers. */
  #helping: Helping | undefined;
  #helped: HelpedStage | undefined;
  /** Whether it holds no layers, and waits for whoever shares some. */
  #seeking = false;
  /** Whether it holds experts only until somebody else does. */
  #handsOver = false;
  /** Whether something is loaded. */
  #loaded = false;
  #maxTokens = 1;
  #range: LayerRange = { begin: 0, end: 1 };
  #mtp = false;
  #serves = false;
  #leaving = false;
  /** When somebody asked for KV rows last. */
  #readAt = Number.NEGATIVE_INFINITY;
  #stepMs = 1;

  constructor(options: ContributionOptions) {
    this.#options = options;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#meter = new TokenMeter(this.#clock);
    const { contextTokens, maxSequences, member } = options;
    this.#pushes = new PushLinks({
      connect: async (peer) => linkChannel(await member.peers.connect(peer, "push"), MAX_SAID_BY_TARGET),
    });
    this.#sizes = { contextTokens, maxSequences, kvTokens: Math.min(FULL_CONTEXTS, maxSequences) * contextTokens };
    this.#sharing = new Sharing({
      member,
      clock: this.#clock,
      memoryBytes: options.memoryBytes,
      sizes: this.#sizes,
      stageBytes: (layers) => this.#bytes(layers, false, true),
      wholeBytes: (layers) => this.#bytes(layers),
      measure: () => options.host.measure(),
      loadExperts: (held, signal) => this.#loadExperts(held, signal),
      onChange: () => this.#announce(this.#serves ? "serving" : "claiming"),
      onWait: (why) => this.#phase({ name: "waiting", why }),
    });
  }

  /** Resolves when it serves, or helps. @throws SwarmError overloaded where not even one layer fits, nor a part of one */
  async take(signal: AbortSignal): Promise<void> {
    const { host, member } = this.#options;
    this.#phase({ name: "choosing" });
    await pause(this.#clock, LISTEN_MS, signal);
    const shared = await this.#share(signal);
    if (shared instanceof Helping) return this.#help(shared);
    this.#helped = shared;
    this.#range = shared?.layers ?? (await this.#claim(signal));
    const layers = this.#range;
    if (shared) this.#announce("claiming");
    this.#mtp = !shared && this.#fitsMtp();
    this.#phase({ name: "fetching", layers, bytes: this.#bytes(layers, this.#mtp, shared !== undefined) });
    await this.#fetch(layers, signal, shared ? { experts: { begin: 0, end: shared.own } } : { mtp: this.#mtp });
    this.#phase({ name: "loading", layers });
    await this.#unload();
    this.#loaded = true;
    const elsewhere = shared && { own: shared.own, shard: shared.experts };
    await host.load(layers, { ...this.#sizes, mtp: this.#mtp }, member, elsewhere);
    member.files.forget();
    try {
      this.#stepMs = await this.#measure();
    } catch (error) {
      if (!this.#sharing.isBroken) throw error;
      // Whoever had the experts has gone again.
      this.#sharing.end();
      return this.take(signal);
    }
    signal.throwIfAborted();
    this.#serves = true;
    this.#announce("serving");
    const helpers = shared && { helpers: this.#sharing.announced?.helpers.map(({ peer }) => peer) ?? [] };
    this.#phase({ name: "serving", layers, stepMs: this.#stepMs, ...helpers });
  }

  /** Until the signal; then another peer may take the layers, where one can, and those who use this one may take what it has of them there, or finish. @throws SwarmError not-a-member where it is expelled */
  async serve(signal: AbortSignal): Promise<void> {
    let needed = 0;
    const { peers } = this.#options.member;
    let wholeAt = this.#clock.now();
    while (!signal.aborted && !peers.expelled) {
      if (this.#helping) {
        await this.#stayHelping(this.#helping, signal);
        continue;
      }
      await this.#sleep(LOOK_MS, signal);
      this.#sharing.tend();
      this.#announce("serving");
      if (!this.#sharing.isBroken) wholeAt = this.#clock.now();
      else if (this.#clock.now() - wholeAt > BROKEN_MS) await this.#move(signal);
      needed = this.#isNeededElsewhere() ? needed + 1 : 0;
      // One after the other: the first may be enough, and all at once would leave a gap behind.
      if (needed >= LOOKS_BEFORE_MOVE * (1 + this.#before())) {
        needed = 0;
        await this.#move(signal);
      }
    }
    this.#leaving = true;
    this.#phase({ name: "leaving" });
    if (this.#helping) {
      this.#handsOver = true;
      this.#announce("leaving");
      await this.#helping.handOver();
    } else {
      this.#announce("leaving");
      await this.#handOver();
    }
    const began = this.#clock.now();
    const isAwaited = (now: number): boolean => now < began + LEAVE_MS || (now < this.#readAt + READING_MS && now < began + HANDOVER_MS);
    while (this.#users.size > 0 && !peers.expelled && isAwaited(this.#clock.now())) await this.#sleep(LEAVE_LOOK_MS);
    this.#serves = false;
    for (const link of this.#users) link.close("this peer leaves");
    this.#sharing.end();
    if (peers.expelled)
      throw new SwarmError("not-a-member", "Cannot go on: this peer, or the invite by which it came, was expelled from the swarm");
  }

  /** For this peer's own use; undefined while it does not serve. */
  get own(): OwnStage | undefined {
    if (!this.#serves || this.#sharing.isBroken) return undefined;
    const { member } = this.#options;
    const known = {
      ...this.#announcement("serving"),
      peer: member.peers.id,
      model: member.manifest.digest,
      number: 0,
      rtts: {},
      heardAt: this.#clock.now(),
    };
    return { known, connect: () => this.#connect() };
  }

  /** Those who use it now. */
  get users(): number {
    return this.#users.size;
  }

  /** A link by which another peer uses the stage, pushes to it what it is asked to compute with, or offers to hold experts. */
  async use(link: Link, purpose: StageLink = "stage"): Promise<void> {
    if (purpose === "experts") return this.#sharing.accept(link);
    if (!this.#serves) return link.close("this peer has no layers yet");
    const { hiddenSize } = this.#options.member.checkpoint.config;
    if (purpose === "push") return this.#pushes.receive(link.remote, linkChannel(link, maxPushBytes(this.#maxTokens, hiddenSize)));
    const far = linkChannel(link);
    try {
      const near = await this.#connect();
      const heard: FrameChannel = {
        send: (frame) => far.send(frame),
        onFrame: (listener) =>
          far.onFrame((frame) => {
            // Over links that are only kept ready nothing comes.
            this.#users.add(link);
            if (this.#leaving && asksForKv(frame)) this.#readAt = this.#clock.now();
            listener(frame);
          }),
        close: (reason) => far.close(reason),
        closed: far.closed,
      };
      servePushing({ near, far: heard, links: this.#pushes, hiddenSize, maxTokens: this.#maxTokens });
    } catch (error) {
      far.close(error instanceof Error ? error.message : String(error));
    }
    await far.closed;
    this.#users.delete(link);
  }

  /** To the stage, with what passes counted. */
  async #connect(): Promise<FrameChannel> {
    const channel = await this.#options.host.connect();
    return {
      send: (frame) => {
        this.#meter.count(stepTokens(frame));
        channel.send(frame);
      },
      onFrame: (listener) => channel.onFrame(listener),
      close: (reason) => channel.close(reason),
      closed: channel.closed,
    };
  }

  /** Says which layers it will take, hears whether somebody else said the same at the same time, and gives way to smaller names. */
  async #claim(signal: AbortSignal): Promise<LayerRange> {
    const { member, memoryBytes } = this.#options;
    const { nLayers } = member.checkpoint.config;
    for (;;) {
      // Whose claims this one makes way for already, whatever their names.
      const before = new Map(member.peers.directory.peers().map(({ peer, layers }) => [peer, layers]));
      const range = this.#choose(() => true);
      if (!range) {
        const least = Math.min(...Array.from({ length: nLayers }, (_, begin) => this.#bytes({ begin, end: begin + 1 })));
        throw new SwarmError(
          "overloaded",
          `Cannot contribute ${megabytes(memoryBytes)} of memory: one layer takes ${megabytes(least)}, expected at least as much`,
          { field: "memory", actual: memoryBytes, expected: `at least ${least}` },
        );
      }
      this.#range = range;
      this.#announce("claiming");
      // Most claims stand: what they take is fetched meanwhile.
      this.#fetch(range, signal, {}, () => this.#range === range).catch(() => undefined);
      await pause(this.#clock, CLAIM_MS, signal);
      const again = this.#choose(
        ({ peer, state, layers }) => state !== "claiming" || peer < member.peers.id || isSame(before.get(peer), layers),
      );
      if (isSame(again, range)) return range;
    }
  }

  #choose(counts: (peer: Announcement) => boolean): LayerRange | undefined {
    const { member, memoryBytes } = this.#options;
    const others = member.peers.directory.peers().filter(({ layers }) => layers !== null);
    return chooseRange({
      nLayers: member.checkpoint.config.nLayers,
      bytes: (range) => this.#bytes(range),
      memoryBytes,
      peers: others.filter((peer) => counts(peer)),
    });
  }

  #fitsMtp(): boolean {
    const { drafts = false, memoryBytes, member } = this.#options;
    const { nLayers, nMtpLayers } = member.checkpoint.config;
    return drafts && nMtpLayers > 0 && this.#range.end === nLayers && this.#bytes(this.#range, true) <= memoryBytes;
  }

  /** A part in a stage that is shared, where no layer fits whole, or a stage near by gains by it; undefined: layers of its own. */
  async #share(signal: AbortSignal): Promise<HelpedStage | Helping | undefined> {
    this.#helped = undefined;
    const alone = this.#choose(() => true);
    // What is claimed next says so.
    if (!alone && !this.#sharing.isPossible) return undefined;
    this.#seeking = !alone;
    try {
      return await this.#sharing.seek(alone, signal);
    } finally {
      this.#seeking = false;
    }
  }

  #help(helping: Helping): void {
    const { peer, held } = helping;
    this.#options.member.files.forget();
    this.#helping = helping;
    this.#announce("serving");
    this.#phase({ name: "helping", peer, layers: held.layers, experts: { begin: held.begin, end: held.end } });
  }

  /** Until the signal, or until the other does not want it any more: then something else is taken. */
  async #stayHelping(helping: Helping, signal: AbortSignal): Promise<void> {
    const stopped = new Promise<void>((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
    await Promise.race([helping.ended, stopped]);
    if (signal.aborted || this.#options.member.peers.expelled) return;
    this.#helping = undefined;
    await this.take(signal).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    });
  }

  async #loadExperts(held: HeldExperts, signal: AbortSignal): Promise<ExpertShard> {
    const { host, member } = this.#options;
    const { layers, begin, end } = held;
    await this.#fetch(layers, signal, { experts: { begin, end }, expertsAlone: true });
    signal.throwIfAborted();
    await this.#unload();
    this.#loaded = true;
    return host.loadExperts(held, member);
  }

  async #unload(): Promise<void> {
    if (!this.#loaded) return;
    this.#loaded = false;
    await this.#options.host.unload();
  }

  /** Of weights, KV cache and activations. */
  #bytes(range: LayerRange, mtp = false, givesExperts = false): number {
    const { checkpoint } = this.#options.member;
    const { config } = checkpoint;
    const plan = stagePlan(config, { ...this.#sizes, layers: range, mtp });
    const { activations } = memoryRequirements(checkpoint, { ...plan, kvFormat: "f16" });
    const kv = this.#sizes.kvTokens * kvBytesPerToken(config, "f16", range.end - range.begin + (mtp ? 1 : 0));
    return weightBytes(checkpoint, { range, mtp, givesExperts }) + kv + activations;
  }

  /** From wherever they are, where this machine has no copy. */
  async #fetch(range: LayerRange, signal: AbortSignal, parts: NeededParts = {}, isWanted = (): boolean => true): Promise<void> {
    const { checkpoint, manifest, files, isWhole } = this.#options.member;
    if (isWhole) return;
    const chunks = [...neededChunks(checkpoint, manifest.manifest, range, parts)];
    const fetchSome = async (): Promise<void> => {
      for (let chunk = chunks.pop(); chunk && isWanted(); chunk = chunks.pop()) await files.chunk(chunk.file, chunk.index, signal);
    };
    await Promise.all(Array.from({ length: FETCHES }, fetchSome));
  }

  async #measure(): Promise<number> {
    const stage = remoteStage(await this.#options.host.connect(), { peer: "this device", silenceMs: Number.POSITIVE_INFINITY });
    const { maxTokens, stepMs } = await warmUp(stage, this.#options.member.checkpoint.config, this.#range, this.#mtp);
    this.#maxTokens = maxTokens;
    return stepMs;
  }

  #announce(state: "claiming" | "serving" | "leaving"): void {
    this.#options.member.peers.announce(this.#announcement(state));
  }

  #announcement(state: "claiming" | "serving" | "leaving") {
    const { maxSequences, kvTokens } = this.#sizes;
    const { memoryBytes, kind } = this.#options;
    const load = this.#users.size / maxSequences;
    const speed = { stepMs: this.#stepMs, load, tokensPerSecond: this.#meter.perSecond };
    const { announced: experts, claimed } = this.#sharing;
    const common = { started: this.#started, memoryBytes, ...speed, freeKvTokens: kvTokens, kind, ...(experts && { experts }) };
    if (this.#helping) return { ...common, state: this.#handsOver ? ("client" as const) : ("helping" as const), layers: null };
    // Nobody shall count on layers that cannot be computed.
    if (this.#seeking && claimed) return { ...common, state: "claiming" as const, layers: claimed };
    if (this.#seeking || (this.#helped && this.#sharing.isBroken)) return { ...common, state: "waiting" as const, layers: null };
    return { ...common, state, layers: this.#range };
  }

  /** Layers are missing, and would be no more so if this peer left its own. */
  #isNeededElsewhere(): boolean {
    const { peers, checkpoint } = this.#options.member;
    const { nLayers } = checkpoint.config;
    const others = peers.directory.peers().flatMap(({ layers, state }) => (layers && state !== "leaving" ? [layers] : []));
    const missing = gaps(nLayers, [...others, this.#range]);
    // Those who hold its experts would have loaded them for nothing.
    if (this.#helped) return false;
    return missing.length > 0 && JSON.stringify(missing) === JSON.stringify(gaps(nLayers, others)) && this.#users.size === 0;
  }

  /** How many hold the same and move first. */
  #before(): number {
    const { peers } = this.#options.member;
    return peers.directory
      .peers()
      .filter(({ peer, state, layers }) => state === "serving" && peer < peers.id && isSame(layers, this.#range)).length;
  }

  /** Until others serve these layers, or it looks as if nobody will. */
  async #handOver(): Promise<void> {
    const { peers, checkpoint } = this.#options.member;
    const end = this.#clock.now() + HANDOVER_MS;
    let hopedAt = Number.NEGATIVE_INFINITY;
    while (!peers.expelled && this.#clock.now() < end) {
      const state = succession(checkpoint.config.nLayers, peers.directory.peers());
      if (state === "hoped") hopedAt = this.#clock.now();
      // Whoever moves here says for a moment that it leaves where it was.
      else if (state === "done" || this.#clock.now() - hopedAt > MOVING_MS) return;
      await this.#sleep(LEAVE_LOOK_MS);
    }
  }

  /** Ends early where the signal is aborted; whoever waits looks at the signal next. */
  #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return pause(this.#clock, ms, signal).catch(() => {});
  }

  async #move(signal: AbortSignal): Promise<void> {
    this.#phase({ name: "moving" });
    this.#serves = false;
    this.#announce("leaving");
    this.#sharing.end();
    await this.#unload();
    await this.take(signal);
  }

  #phase(phase: ContributionPhase): void {
    this.#options.onPhase?.(phase);
  }
}

function isSame(one: LayerRange | null | undefined, other: LayerRange | null): boolean {
  return one?.begin === other?.begin && one?.end === other?.end;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
