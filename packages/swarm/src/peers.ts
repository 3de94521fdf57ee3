/**
 * One peer's side of a swarm: proves itself and has others prove themselves, keeps the directory, makes links. What goes over the links is not its business.
 *
 * A link is asked for over a channel of the rendezvous: membership first, then what the link is for, then signals until lanes are open. Where none opens in time, the channel itself
 * becomes the only lane, through the relay, and is marked as slow. The channel stays open as long as it lives: lanes that are lost are made anew over it, or over a new one.
 */
import { z } from "zod";
import { type Clock, SYSTEM_CLOCK, every } from "./clock.ts";
import { type Announcement, decodeAnnouncement, encodeAnnouncement } from "./control/announcement.ts";
import { ANNOUNCE_MS, Directory } from "./control/directory.ts";
import { type Identity, type Signed, signedSchema } from "./control/identity.ts";
import { Expulsions, type Membership, type MembershipRules, proveMembership } from "./control/membership.ts";
import type { PeerChannel, Rendezvous } from "./control/rendezvous.ts";
import { SwarmError } from "./errors.ts";
import { parseJson } from "./json.ts";
import type { Lane } from "./link/lane.ts";
import { relayLane } from "./link/relayLane.ts";
import type { Link } from "./link/link.ts";
import { type MakeNegotiator, type Negotiator, RtcNegotiator, type RtcOptions, type Signal } from "./link/rtcNegotiator.ts";
import { StripedLink } from "./link/stripedLink.ts";

/** RTCPeerConnections of a link. */
export const LANES = 4;
/** Until the first lane of a new link is open. */
const CONNECT_MS = 12_000;
/** After which the relay carries data, if nothing else has connected. */
const RELAY_AFTER_MS = 6000;
const PROOF_MS = 10_000;
const REDIAL_MS = 500;
/** Links that one peer may have with us at once. */
const MAX_LINKS_PER_PEER = 8;
const MAX_LINKS = 256;
/** Lists of the expelled are told again so often, and to somebody new: whoever was away shall hear of them too. */
const TELL_EXPULSIONS_MS = 10_000;
const TELL_AGAIN_MS = 1000;
/** Channels that prove themselves at once: strangers cost no more. */
const MAX_PROVING = 32;

/** `push`: what one stage gives goes to the next. `experts`: a peer offers to hold some of the other's experts. */
export type LinkPurpose = "stage" | "chunks" | "push" | "experts";

const requestSchema = z.strictObject({ purpose: z.enum(["stage", "chunks", "push", "experts"]), link: z.uuid() });
const acceptedSchema = z.strictObject({ accepted: z.literal(true) });
const line = z.int().min(0).max(16).nullable();
const lane = z
  .int()
  .min(0)
  .max(2 ** 16);
const signalSchema = z.union([
  z.strictObject({ kind: z.literal("offer"), lane, sdp: z.string().max(32_768) }),
  z.strictObject({ kind: z.literal("answer"), lane, sdp: z.string().max(32_768) }),
  z.strictObject({ kind: z.literal("candidate"), lane, candidate: z.string().max(1024), mid: z.string().max(64).nullable(), line }),
  /** The channel itself is a lane from now on. */
  z.strictObject({ kind: z.literal("relayed") }),
]);

export interface PeersOptions {
  readonly identity: Identity;
  readonly membership: Membership;
  readonly swarm: string;
  /** SHA-256 of the model's manifest. */
  readonly model: string;
  readonly rendezvous: Rendezvous;
  /** Absent: links go through the rendezvous alone, as in tests. */
  readonly rtc?: RtcOptions | MakeNegotiator;
  readonly clock?: Clock;
  readonly wallClock?: () => number;
  /** Asked for by others. */
  readonly onLink?: (link: Link, purpose: LinkPurpose) => void;
}

/** A link that this side or the other asked for, and what makes its lanes. */
interface Held {
  readonly link: StripedLink;
  readonly remote: string;
  /** Lanes that the side that dials makes. */
  lanes: number;
  /** Begins those that are missing. */
  offer?: () => void;
  /** By which it came into the swarm: known when it has proven that. */
  invite?: string;
}

export class Peers {
  readonly id: string;
  readonly directory: Directory;
  readonly expulsions: Expulsions;
  readonly #options: PeersOptions;
  readonly #clock: Clock;
  readonly #rules: MembershipRules;
  /** By the link's id. */
  readonly #links = new Map<string, Held>();
  readonly #stop: () => void;
  #proving = 0;
  #own: Announcement | undefined;
  #number = 0;
  #toldExpulsionsAt = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: PeersOptions) {
    this.#options = options;
    this.id = options.identity.id;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.directory = new Directory(options.model, this.#clock);
    this.expulsions = new Expulsions(options.swarm);
    this.#rules = { swarm: options.swarm, expulsions: this.expulsions, ...(options.wallClock && { wallClock: options.wallClock }) };
    options.rendezvous.listen({
      onChannel: (channel) => void this.#accept(channel),
      onMessage: (from, message) => void this.#hear(from, message),
    });
    const stops = [
      every(this.#clock, ANNOUNCE_MS, () => void this.#publish()),
      every(this.#clock, TELL_EXPULSIONS_MS, () => this.#tellExpulsions()),
    ];
    this.#stop = () => stops.forEach((stop) => stop());
  }

  /** What is said of this peer from now on, at once and again and again. `number` and `peer` are filled in. */
  announce(announcement: Omit<Announcement, "peer" | "number" | "model" | "rtts">): void {
    this.#own = { ...announcement, peer: this.id, number: 0, model: this.#options.model, rtts: {} };
    void this.#publish();
  }

  /** By peer: the quickest lane of the quickest link. */
  rtts(): ReadonlyMap<string, number> {
    const all = new Map<string, number>();
    for (const { link, remote } of this.#links.values()) {
      const { rttMs } = link.stats();
      if (rttMs !== undefined) all.set(remote, Math.min(rttMs, all.get(remote) ?? Number.POSITIVE_INFINITY));
    }
    return all;
  }

  links(): readonly Link[] {
    return [...this.#links.values()].map(({ link }) => link);
  }

  /**
   * @param lanes fewer for a link that is only kept ready
   * @throws SwarmError not-a-member, link-lost
   */
  async connect(peer: string, purpose: LinkPurpose, signal?: AbortSignal, lanes = LANES): Promise<Link> {
    if (this.#closed) throw new SwarmError("closed", "Cannot connect: this peer has left the swarm");
    if (this.directory.isBanned(peer)) throw new SwarmError("not-a-member", `Cannot connect to '${peer}': it is banned`);
    const id = crypto.randomUUID();
    const state = { dialling: false };
    const link = new StripedLink({
      remote: peer,
      clock: this.#clock,
      reconnectMs: CONNECT_MS,
      onLaneLost: () => void redial(),
    });
    this.#hold(id, link, peer, lanes);
    const redial = async (): Promise<void> => {
      if (state.dialling || !this.#links.has(id)) return;
      state.dialling = true;
      try {
        await this.#dial(id, link, purpose);
      } catch {
        this.#clock.after(REDIAL_MS, () => void redial());
      } finally {
        state.dialling = false;
      }
    };
    state.dialling = true;
    try {
      await this.#dial(id, link, purpose, signal);
    } catch (error) {
      link.close();
      throw error;
    } finally {
      state.dialling = false;
    }
    return link;
  }

  /** All the lanes for a link that was made with fewer. */
  widen(link: Link): void {
    const held = [...this.#links.values()].find((one) => one.link === link);
    if (!held || held.lanes >= LANES) return;
    held.lanes = LANES;
    held.offer?.();
  }

  /** Bans here, and ends what links there are. Others make up their own minds. */
  ban(peer: string, reason: string): void {
    this.directory.ban(peer, reason);
    this.#dropLinks(peer, reason);
  }

  /** Whether this peer itself was expelled, or its invite. */
  get expelled(): boolean {
    return this.expulsions.has(this.id, this.#options.membership.member.by);
  }

  /**
   * For the swarm's owner: puts more on the newest list that this peer knows.
   * @returns the list, which the owner keeps: one made without it would be older than what the others know, and not count
   */
  async expel(swarm: Identity, more: { readonly peers?: readonly string[]; readonly invites?: readonly string[] }): Promise<string> {
    const signed = await this.expulsions.expel(swarm, more);
    await this.#takeExpulsions(signed);
    this.#tellExpulsions();
    return JSON.stringify({ expulsions: signed });
  }

  /** A list as `expel` gave it. @throws SwarmError */
  async recallExpulsions(text: string): Promise<void> {
    await this.#takeExpulsions(parseJson(text, expulsionsSchema, "a list of the expelled").expulsions);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    if (this.#own) await this.#publish("leaving");
    this.#closed = true;
    this.#stop();
    for (const { link } of this.#links.values()) link.close("leaving");
    await this.#options.rendezvous.close();
  }

  async #publish(state?: "leaving"): Promise<void> {
    if (!this.#own || this.#closed) return;
    const rtts = Object.fromEntries([...this.rtts()].slice(0, 64).map(([peer, ms]) => [peer, Math.round(ms * 10) / 10]));
    // A client has nothing to hand over.
    const said = { ...this.#own, ...(state && this.#own.layers && { state }), number: ++this.#number, rtts };
    const bytes = await encodeAnnouncement(this.#options.identity, this.#options.membership, said);
    this.#options.rendezvous.publish(bytes);
  }

  async #hear(from: string, message: Uint8Array): Promise<void> {
    if (this.#closed || !this.directory.admits(from)) return;
    try {
      const expulsions = expulsionsIn(message);
      if (expulsions) {
        await this.#takeExpulsions(expulsions);
        return;
      }
      const announcement = await decodeAnnouncement(message, this.#rules);
      if (announcement.peer === this.id) return;
      if (!this.directory.knows(announcement.peer) && this.#clock.now() - this.#toldExpulsionsAt >= TELL_AGAIN_MS) this.#tellExpulsions();
      this.directory.hear(announcement);
    } catch {
      // Strangers and nonsense are not worth a word, or they could fill a log.
    }
  }

  async #takeExpulsions(signed: Signed): Promise<void> {
    if (await this.expulsions.take(signed)) this.#dropExpelled();
  }

  #dropExpelled(): void {
    for (const { link, remote, invite } of this.#links.values()) if (this.expulsions.has(remote, invite)) link.close("expelled");
    for (const { peer } of this.directory.peers()) if (this.expulsions.has(peer)) this.directory.forget(peer);
  }

  #tellExpulsions(): void {
    const { signed } = this.expulsions;
    if (!signed || this.#closed) return;
    this.#toldExpulsionsAt = this.#clock.now();
    this.#options.rendezvous.publish(new TextEncoder().encode(JSON.stringify({ expulsions: signed })));
  }

  #dropLinks(peer: string, reason: string): void {
    for (const { link, remote } of this.#links.values()) if (remote === peer) link.close(reason);
  }

  #hold(id: string, link: StripedLink, remote: string, lanes = LANES): void {
    this.#links.set(id, { link, remote, lanes });
    void link.closed.then(() => this.#links.delete(id));
  }

  /** Opens a channel and makes lanes over it; resolves with the first. */
  async #dial(id: string, link: StripedLink, purpose: LinkPurpose, signal?: AbortSignal): Promise<void> {
    const channel = await this.#options.rendezvous.open(link.remote, signal);
    try {
      const { member } = await this.#prove(channel);
      this.#cameBy(id, member.by);
      channel.send(JSON.stringify({ purpose, link: id }));
      parseJson(await this.#inTime(channel.receive(), channel), acceptedSchema, "an answer to a link's request");
    } catch (error) {
      channel.close();
      throw error;
    }
    await this.#negotiate(channel, link, this.#links.get(id));
  }

  async #accept(channel: PeerChannel): Promise<void> {
    try {
      if (this.#closed || this.#proving >= MAX_PROVING || this.directory.isBanned(channel.remote))
        throw new SwarmError("overloaded", "Cannot take a channel now");
      this.#proving++;
      let membership: Membership;
      try {
        membership = await this.#prove(channel);
      } finally {
        this.#proving--;
      }
      const { purpose, link: id } = parseJson(await this.#inTime(channel.receive(), channel), requestSchema, "a link's request");
      const held = this.#links.get(id);
      if (held && held.remote !== channel.remote) throw new SwarmError("not-a-member", "Cannot join a link of somebody else's");
      const link = held?.link ?? this.#acceptLink(id, channel.remote, purpose);
      this.#cameBy(id, membership.member.by);
      channel.send(JSON.stringify({ accepted: true }));
      await this.#negotiate(channel, link, undefined);
    } catch {
      channel.close();
    }
  }

  #acceptLink(id: string, remote: string, purpose: LinkPurpose): StripedLink {
    const { onLink } = this.#options;
    const theirs = [...this.#links.values()].filter((held) => held.remote === remote).length;
    if (!onLink || theirs >= MAX_LINKS_PER_PEER || this.#links.size >= MAX_LINKS)
      throw new SwarmError("overloaded", `Cannot take another link of '${remote}': it has ${theirs}`);
    const link = new StripedLink({ remote, clock: this.#clock, reconnectMs: CONNECT_MS });
    this.#hold(id, link, remote);
    onLink(link, purpose);
    return link;
  }

  async #prove(channel: PeerChannel): Promise<Membership> {
    const { identity, membership } = this.#options;
    const theirs = await this.#inTime(proveMembership(channel, { identity, membership }, channel.remote, this.#rules), channel);
    // The other may have known more of the expelled.
    this.#dropExpelled();
    return theirs;
  }

  #cameBy(id: string, invite: string): void {
    const held = this.#links.get(id);
    if (held) held.invite = invite;
  }

  /** Whoever says nothing does not hold anything up. */
  async #inTime<T>(work: Promise<T>, channel: PeerChannel): Promise<T> {
    const cancel = this.#clock.after(PROOF_MS, () => channel.close());
    try {
      return await work;
    } finally {
      cancel();
    }
  }

  /**
   * Signals until the channel ends. Resolves when a lane is open, for the side that dials; for the other when it has ended.
   * @param held the link, for the side that dials
   */
  async #negotiate(channel: PeerChannel, link: StripedLink, held: Held | undefined): Promise<void> {
    const dials = held !== undefined;
    const { rtc } = this.#options;
    let opened: () => void = () => {};
    let failed: (error: Error) => void = () => {};
    const first = new Promise<void>((resolve, reject) => {
      opened = resolve;
      failed = reject;
    });
    first.catch(() => {});
    const state = { ended: false };
    // Under loss a connection may not come about in time while its sisters do: the one that dials tries again, else the link is thinner for its whole life.
    const offerAgain = (): void => {
      if (held) this.#clock.after(REDIAL_MS, () => void (!state.ended && link.lanes < held.lanes && negotiator?.offer()));
    };
    const negotiator: Negotiator | undefined = rtc && this.#negotiator(rtc, channel, link, opened, offerAgain);
    const relay = (): void => {
      link.addLane(relayLane(channel));
      opened();
    };
    const relayed = (): void => {
      if (link.lanes > 0) return;
      channel.send(JSON.stringify({ kind: "relayed" }));
      relay();
    };
    const cancel = dials ? this.#clock.after(rtc ? RELAY_AFTER_MS : 0, relayed) : () => {};
    void first.then(cancel, cancel);
    void link.closed.then((error) => {
      failed(error);
      channel.close();
    });
    if (held) {
      held.offer = () => {
        for (let missing = held.lanes - link.lanes; missing > 0 && !state.ended; missing--) void negotiator?.offer();
      };
      held.offer();
    }
    const signals = async (): Promise<void> => {
      for (;;) {
        const signal = parseJson(await channel.receive(), signalSchema, "a signal");
        if (signal.kind === "relayed") relay();
        else if (negotiator) await negotiator.take(signal);
      }
    };
    const ended = signals().catch((error: unknown) => {
      channel.close();
      if (link.lanes === 0) failed(error instanceof Error ? error : new SwarmError("link-lost", String(error)));
    });
    void ended.then(() => {
      state.ended = true;
      negotiator?.close();
    });
    await (dials ? first : ended);
  }

  #negotiator(
    rtc: RtcOptions | MakeNegotiator,
    channel: PeerChannel,
    link: StripedLink,
    opened: () => void,
    failure: () => void,
  ): Negotiator {
    const on = {
      send: (signal: Signal) => channel.send(JSON.stringify(signal)),
      lane: (made: Lane) => {
        link.addLane(made);
        opened();
      },
      failure,
    };
    return typeof rtc === "function" ? rtc(on) : new RtcNegotiator(rtc, on);
  }
}

const expulsionsSchema = z.strictObject({ expulsions: signedSchema });

function expulsionsIn(message: Uint8Array): Signed | undefined {
  // Cheap: an announcement begins otherwise.
  const text = new TextDecoder().decode(message.subarray(0, 14));
  if (text !== '{"expulsions":') return undefined;
  return parseJson(new TextDecoder().decode(message), expulsionsSchema, "a list of the expelled").expulsions;
}
