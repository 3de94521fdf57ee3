/**
 * Who is there, by what peers say of themselves. An announcement counts for a while after it was heard, by this machine's clock alone: clocks of peers need not agree. Peers
 * that lied are banned here, whatever others think of them.
 */
import { type Clock, SYSTEM_CLOCK } from "../clock.ts";
import type { Announcement } from "./announcement.ts";

/** Between a peer's announcements, when nothing changes. */
export const ANNOUNCE_MS = 2000;
/** Three are missing: the peer is taken for gone. */
export const ANNOUNCEMENT_LIVES_MS = 3.5 * ANNOUNCE_MS;
const MAX_PEERS = 1024;
/** Announcements of one peer in ANNOUNCE_MS that are looked at; the rest of a flood is not. */
const MAX_RATE = 16;
/** A ban's length, doubled with each further one (as Petals does). */
const BAN_MS = 60_000;
const MAX_BAN_MS = 24 * 3_600_000;

export interface KnownPeer extends Announcement {
  readonly heardAt: number;
}

interface Ban {
  readonly until: number;
  readonly count: number;
  readonly reason: string;
}

export class Directory {
  readonly #clock: Clock;
  readonly #model: string;
  readonly #peers = new Map<string, KnownPeer>();
  readonly #bans = new Map<string, Ban>();
  readonly #rates = new Map<string, { since: number; count: number }>();
  readonly #listeners = new Set<() => void>();

  constructor(model: string, clock: Clock = SYSTEM_CLOCK) {
    this.#model = model;
    this.#clock = clock;
  }

  /** Cheap, and before anything is verified. @returns whether a message of this peer's is worth looking at */
  admits(peer: string): boolean {
    if (this.isBanned(peer)) return false;
    const now = this.#clock.now();
    const rate = this.#rates.get(peer);
    if (!rate || now - rate.since >= ANNOUNCE_MS) {
      if (this.#rates.size >= 4 * MAX_PEERS) this.#rates.clear();
      this.#rates.set(peer, { since: now, count: 1 });
      return true;
    }
    return ++rate.count <= MAX_RATE;
  }

  /** A verified announcement. @returns whether it was news */
  hear(announcement: Announcement): boolean {
    const { peer, started, number, model } = announcement;
    if (model !== this.#model || this.isBanned(peer)) return false;
    const known = this.#peers.get(peer);
    // One that was recorded and played again is older than what is known, or has been forgotten and says what was true then: it dies as quickly.
    if (known && (started < known.started || (started === known.started && number <= known.number))) return false;
    if (!known && this.#peers.size >= MAX_PEERS) {
      this.#forgetOld();
      if (this.#peers.size >= MAX_PEERS) return false;
    }
    this.#peers.set(peer, { ...announcement, heardAt: this.#clock.now() });
    if (!known || changed(known, announcement)) this.#tell();
    return true;
  }

  /** Everybody who was heard of lately and is not banned, in the order of their ids. */
  peers(): readonly KnownPeer[] {
    this.#forgetOld();
    return [...this.#peers.values()].filter(({ peer }) => !this.isBanned(peer)).sort((a, b) => (a.peer < b.peer ? -1 : 1));
  }

  /** Also where it has fallen silent. Cheap. */
  knows(peer: string): boolean {
    return this.#peers.has(peer);
  }

  get(peer: string): KnownPeer | undefined {
    return this.peers().find((one) => one.peer === peer);
  }

  /** A link to it broke: it is gone until it says otherwise. */
  forget(peer: string): void {
    const known = this.#peers.get(peer);
    if (!known) return;
    this.#peers.delete(peer);
    this.#tell();
  }

  ban(peer: string, reason: string): void {
    const count = (this.#bans.get(peer)?.count ?? 0) + 1;
    this.#bans.set(peer, { until: this.#clock.now() + Math.min(MAX_BAN_MS, BAN_MS * 2 ** (count - 1)), count, reason });
    this.#peers.delete(peer);
    this.#tell();
  }

  isBanned(peer: string): boolean {
    return (this.#bans.get(peer)?.until ?? Number.NEGATIVE_INFINITY) > this.#clock.now();
  }

  bans(): readonly { readonly peer: string; readonly reason: string }[] {
    return [...this.#bans].filter(([peer]) => this.isBanned(peer)).map(([peer, { reason }]) => ({ peer, reason }));
  }

  /** @returns what ends it */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #forgetOld(): void {
    const oldest = this.#clock.now() - ANNOUNCEMENT_LIVES_MS;
    for (const [peer, { heardAt }] of this.#peers) if (heardAt < oldest) this.#peers.delete(peer);
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}

function changed(before: Announcement, after: Announcement): boolean {
  return before.state !== after.state || before.layers?.begin !== after.layers?.begin || before.layers?.end !== after.layers?.end;
}
