/**
 * How peers find one another and exchange the few bytes before a link exists: messages to all, and authenticated channels to one. The real one is libp2p's (libp2pRendezvous.ts);
 * the one here connects peers of one process, for tests.
 */
import { type Clock, SYSTEM_CLOCK } from "../clock.ts";
import { SwarmError } from "../errors.ts";
import { Inbox } from "./inbox.ts";

/** Texts are for agreeing on a link; frames are a link's own, where nothing else connects and the relay carries them. */
export interface PeerChannel {
  /** Proven: the channel is encrypted to its key. */
  readonly remote: string;
  send(text: string): void;
  /** @throws SwarmError link-lost when there are no more, malformed for one that is too long */
  receive(): Promise<string>;
  sendFrame(frame: Uint8Array<ArrayBuffer>): void;
  onFrame(take: (frame: Uint8Array) => void): void;
  close(): void;
  readonly closed: Promise<void>;
}

export interface RendezvousEvents {
  readonly onChannel: (channel: PeerChannel) => void;
  /** Signed and checked by the receiver: nothing but `from` is certain about it. */
  readonly onMessage: (from: string, message: Uint8Array) => void;
}

export interface Rendezvous {
  readonly id: string;
  listen(events: RendezvousEvents): void;
  /** @throws SwarmError link-lost where the peer cannot be reached */
  open(peer: string, signal?: AbortSignal): Promise<PeerChannel>;
  /** To whoever hears it; lost while there is no relay. */
  publish(message: Uint8Array): void;
  close(): Promise<void>;
}

/** Texts and frames that wait to be taken. */
export const MAX_WAITING = 256;
export const MAX_TEXT_BYTES = 64 * 1024;

export class MemoryNetwork {
  readonly #clock: Clock;
  readonly #peers = new Map<string, RendezvousEvents>();
  readonly #delayMs: () => number;
  /** Ids that cannot be reached and reach nobody: a partition, or a relay that is down for all. */
  readonly cutOff = new Set<string>();

  constructor(clock: Clock = SYSTEM_CLOCK, delayMs: () => number = () => 5) {
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  join(id: string): Rendezvous {
    return {
      id,
      listen: (events) => this.#peers.set(id, events),
      open: (peer) => this.#open(id, peer),
      publish: (message) => {
        if (this.cutOff.has(id)) return;
        for (const [other, { onMessage }] of this.#peers)
          if (other !== id) this.#clock.after(this.#delayMs(), () => this.cutOff.has(other) || onMessage(id, message.slice()));
      },
      close: async () => void this.#peers.delete(id),
    };
  }

  async #open(from: string, to: string): Promise<PeerChannel> {
    const events = this.#peers.get(to);
    if (!events || this.cutOff.has(from) || this.cutOff.has(to)) throw new SwarmError("link-lost", `Cannot reach '${to}': it is not there`);
    const near = new MemoryChannel(to, this.#clock, this.#delayMs);
    const far = new MemoryChannel(from, this.#clock, this.#delayMs);
    near.other = far;
    far.other = near;
    this.#clock.after(this.#delayMs(), () => events.onChannel(far));
    return near;
  }
}

class MemoryChannel implements PeerChannel {
  readonly remote: string;
  other: MemoryChannel | undefined;
  readonly #texts = new Inbox<string>(MAX_WAITING);
  readonly #clock: Clock;
  readonly #delayMs: () => number;
  #take: (frame: Uint8Array) => void = () => {};

  constructor(remote: string, clock: Clock, delayMs: () => number) {
    this.remote = remote;
    this.#clock = clock;
    this.#delayMs = delayMs;
  }

  get closed(): Promise<void> {
    return this.#texts.ended.then(() => undefined);
  }

  send(text: string): void {
    this.#clock.after(this.#delayMs(), () => this.other?.hear(text));
  }

  receive(): Promise<string> {
    return this.#texts.take();
  }

  sendFrame(frame: Uint8Array<ArrayBuffer>): void {
    this.#clock.after(this.#delayMs(), () => this.other?.hearFrame(frame));
  }

  onFrame(take: (frame: Uint8Array) => void): void {
    this.#take = take;
  }

  hear(text: string): void {
    this.#texts.put(text);
  }

  hearFrame(frame: Uint8Array): void {
    this.#take(frame);
  }

  hearEnd(error: Error): void {
    this.#texts.end(error);
  }

  close(): void {
    const error = new SwarmError("link-lost", `The channel to '${this.remote}' is closed`);
    this.#texts.end(error);
    this.#clock.after(this.#delayMs(), () => this.other?.hearEnd(error));
  }
}
