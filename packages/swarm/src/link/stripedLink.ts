/**
 * Messages striped over several lanes. A message of one token is cut so that each lane carries a part of it within its first burst; a larger one goes in fragments of
 * MAX_FRAGMENT_BYTES to whichever lane has least waiting. A lane that falls silent is closed, and what it had not delivered goes over the others; new lanes may be added at
 * any time. A link without lanes is lost unless one comes within `reconnectMs`.
 */
import { type Clock, SYSTEM_CLOCK, every } from "../clock.ts";
import { deferred } from "../deferred.ts";
import { SwarmError, malformed } from "../errors.ts";
import { type DataFrame, LAST_MESSAGE, MAX_FRAGMENT_BYTES, MAX_MESSAGE_BYTES, decodeFrame, encodeFrame } from "./frames.ts";
import { LANE_HIGH_BYTES, type Lane } from "./lane.ts";
import type { Link, LinkStats } from "./link.ts";
import { Reassembly, WINDOW_BYTES, WINDOW_MESSAGES } from "./reassembly.ts";
import { Silence } from "./silence.ts";

/** Bytes. A message up to this goes in one frame; less is not worth a packet of its own (an Ethernet frame carries about 1,200 of SCTP's bytes). */
export const STRIPE_BYTES = 1152;
export const HEARTBEAT_MS = 250;
/** Of beats: so often a round trip is measured also where the other end's signs of life would do. */
const MEASURE_BEATS = 8;
/** A lane that has said nothing for so long is closed: six heartbeats. */
export const SILENCE_MS = 1500;
export const RECONNECT_MS = 3000;
/** Messages that wait for a listener. */
const MAX_EARLY_MESSAGES = WINDOW_MESSAGES;
/** How much of a new round trip counts (RFC 6298). */
const RTT_GAIN = 1 / 8;

export interface StripedLinkOptions {
  readonly remote: string;
  readonly clock?: Clock;
  readonly heartbeatMs?: number;
  readonly silenceMs?: number;
  readonly reconnectMs?: number;
  /** A lane was lost; whoever dialled opens another one and adds it. */
  readonly onLaneLost?: (lanesLeft: number) => void;
}

interface Fragment {
  readonly message: number;
  readonly totalBytes: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
  lane: OpenLane | undefined;
}

interface OpenLane {
  readonly lane: Lane;
  heardAt: number;
  rttMs: number | undefined;
  pingAt: number;
  pingNumber: number;
  /** The last acknowledgement that went over it. */
  acknowledged: number;
}

/** A message that waits for room in the window. */
interface Waiting {
  readonly message: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export class StripedLink implements Link {
  readonly remote: string;
  readonly closed: Promise<Error>;
  readonly #clock: Clock;
  readonly #options: Required<Pick<StripedLinkOptions, "heartbeatMs" | "silenceMs" | "reconnectMs">> & StripedLinkOptions;
  readonly #lanes = new Set<OpenLane>();
  readonly #reassembly = new Reassembly();
  /** By message: what has been sent and not acknowledged, or waits for a lane. */
  readonly #unacknowledged = new Map<number, readonly Fragment[]>();
  #unacknowledgedBytes = 0;
  #queue: Fragment[] = [];
  #waiting: Waiting[] = [];
  #nextMessage = 0;
  #early: Uint8Array<ArrayBuffer>[] | undefined = [];
  #onMessage: (message: Uint8Array<ArrayBuffer>) => void = () => {};
  #ended: Error | undefined;
  readonly #end: (error: Error) => void;
  readonly #stopHeartbeat: () => void;
  #beatAt: number;
  /** From the first lane on: before, nothing could come. */
  #silence: Silence | undefined;
  /** As of the last beat, which knows whether this thread stood still. */
  #silentMs = 0;
  #laneless: (() => void) | undefined;
  #turn = 0;
  #sent = 0;
  #received = 0;
  #resent = 0;
  #kind = "";

  constructor(options: StripedLinkOptions) {
    this.remote = options.remote;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
    this.#options = { heartbeatMs: HEARTBEAT_MS, silenceMs: SILENCE_MS, reconnectMs: RECONNECT_MS, ...options };
    const { promise, resolve } = deferred<Error>();
    this.closed = promise;
    this.#end = resolve;
    this.#beatAt = this.#clock.now();
    this.#stopHeartbeat = every(this.#clock, this.#options.heartbeatMs, () => this.#beat());
    this.#startReconnecting();
  }

  get lanes(): number {
    return this.#lanes.size;
  }

  addLane(lane: Lane): void {
    if (this.#ended) {
      lane.close();
      return;
    }
    const open: OpenLane = { lane, heardAt: this.#clock.now(), rttMs: undefined, pingAt: 0, pingNumber: 0, acknowledged: 0 };
    this.#lanes.add(open);
    this.#silence ??= new Silence(open.heardAt);
    this.#kind = lane.kind;
    this.#laneless?.();
    this.#laneless = undefined;
    lane.listen({
      onFrame: (frame) => this.#take(open, frame),
      onClose: (reason) => this.#lose(open, reason),
      onDrain: () => this.#pump(),
    });
    // What the other end does not know that we have would be sent again.
    this.#acknowledge(open);
    this.#ping(open);
    this.#pump();
  }

  listen(onMessage: (message: Uint8Array<ArrayBuffer>) => void): void {
    this.#onMessage = onMessage;
    const early = this.#early ?? [];
    this.#early = undefined;
    for (const message of early) this.#deliver(message);
  }

  async send(message: Uint8Array): Promise<void> {
    if (message.byteLength > MAX_MESSAGE_BYTES)
      throw malformed("a message to send", "its length", message.byteLength, `at most ${MAX_MESSAGE_BYTES} bytes`);
    if (this.#ended) throw this.#ended;
    if (this.#waiting.length === 0 && this.#hasRoom(message.byteLength)) this.#enqueue(message);
    else await new Promise<void>((resolve, reject) => this.#waiting.push({ message, resolve, reject }));
  }

  close(reason = "closed"): void {
    if (this.#ended) return;
    for (const { lane } of this.#lanes) lane.send(encodeFrame({ kind: "bye", reason }));
    this.#finish(new SwarmError("closed", `The link to '${this.remote}' is closed: ${reason}`));
  }

  stats(): LinkStats {
    const times = [...this.#lanes].flatMap(({ rttMs }) => (rttMs === undefined ? [] : [rttMs]));
    return {
      rttMs: times.length > 0 ? Math.min(...times) : undefined,
      lanes: this.#lanes.size,
      kind: this.#kind,
      silentMs: this.#silentMs,
      sentBytes: this.#sent,
      receivedBytes: this.#received,
      resent: this.#resent,
    };
  }

  #hasRoom(bytes: number): boolean {
    if (this.#unacknowledged.size === 0) return true;
    return this.#unacknowledged.size < WINDOW_MESSAGES && this.#unacknowledgedBytes + bytes <= WINDOW_BYTES;
  }

  #enqueue(message: Uint8Array): void {
    const number = this.#nextMessage++;
    if (number >= LAST_MESSAGE) {
      this.#finish(new SwarmError("link-lost", `The link to '${this.remote}' has sent all messages that have numbers`));
      return;
    }
    const fragments = this.#cut(number, message);
    this.#unacknowledged.set(number, fragments);
    this.#unacknowledgedBytes += message.byteLength;
    for (const fragment of fragments) this.#queue.push(fragment);
    this.#pump();
  }

  #cut(message: number, bytes: Uint8Array): readonly Fragment[] {
    const totalBytes = bytes.byteLength;
    const share = Math.ceil(totalBytes / Math.max(1, this.#lanes.size));
    const size = Math.min(MAX_FRAGMENT_BYTES, Math.max(STRIPE_BYTES, share));
    const count = Math.max(1, Math.ceil(totalBytes / size));
    return Array.from({ length: count }, (_, index) => ({
      message,
      totalBytes,
      offset: index * size,
      bytes: bytes.subarray(index * size, (index + 1) * size),
      lane: undefined,
    }));
  }

  #pump(): void {
    let taken = 0;
    for (const fragment of this.#queue) {
      const open = this.#leastBusy();
      if (!open) break;
      taken++;
      // Acknowledged while it waited to be sent again.
      if (!this.#unacknowledged.has(fragment.message)) continue;
      fragment.lane = open;
      const { message, totalBytes, offset, bytes } = fragment;
      this.#sent += bytes.byteLength;
      open.lane.send(encodeFrame({ kind: "data", message, totalBytes, offset, fragment: bytes }));
    }
    if (taken > 0) this.#queue = this.#queue.slice(taken);
  }

  /** In turn among those that have least waiting, so that the parts of one message go different ways. */
  #leastBusy(): OpenLane | undefined {
    const lanes = [...this.#lanes];
    let best: OpenLane | undefined;
    let least = LANE_HIGH_BYTES;
    for (let i = 0; i < lanes.length; i++) {
      const open = lanes[(this.#turn + i) % lanes.length];
      const waiting = open?.lane.bufferedBytes ?? 0;
      if (!open || waiting >= least) continue;
      best = open;
      least = waiting;
    }
    if (best) this.#turn = (lanes.indexOf(best) + 1) % lanes.length;
    return best;
  }

  #take(open: OpenLane, bytes: Uint8Array): void {
    if (this.#ended || !this.#lanes.has(open)) return;
    open.heardAt = this.#clock.now();
    this.#silence?.heard(open.heardAt);
    this.#silentMs = 0;
    this.#received += bytes.byteLength;
    try {
      const frame = decodeFrame(bytes);
      switch (frame.kind) {
        case "data":
          this.#takeData(open, frame);
          return;
        case "ack":
          this.#takeAcknowledgement(frame.next);
          return;
        case "ping":
          open.lane.send(encodeFrame({ kind: "pong", number: frame.number }));
          return;
        case "pong":
          this.#takePong(open, frame.number);
          return;
        case "bye":
          this.#finish(new SwarmError("closed", `The link to '${this.remote}' was closed by the other end: ${frame.reason}`));
          return;
      }
    } catch (error) {
      // Somebody who breaks the protocol is not worth another frame.
      this.#finish(error instanceof Error ? error : new SwarmError("malformed", String(error)));
    }
  }

  #takeData(open: OpenLane, frame: DataFrame): void {
    const before = this.#reassembly.next;
    const messages = this.#reassembly.add(frame);
    if (this.#reassembly.next > before || frame.message < before) this.#acknowledge(open);
    for (const message of messages) this.#deliver(message);
  }

  #deliver(message: Uint8Array<ArrayBuffer>): void {
    if (!this.#early) {
      this.#onMessage(message);
      return;
    }
    if (this.#early.length >= MAX_EARLY_MESSAGES)
      throw new SwarmError("overloaded", `'${this.remote}' sends more than ${MAX_EARLY_MESSAGES} messages before anybody listens`);
    this.#early.push(message);
  }

  #acknowledge(open: OpenLane): void {
    const { next } = this.#reassembly;
    if (next === 0) return;
    open.acknowledged = next;
    open.lane.send(encodeFrame({ kind: "ack", next }));
  }

  #takeAcknowledgement(next: number): void {
    if (next > this.#nextMessage)
      throw malformed("an acknowledgement", "its number", next, `at most ${this.#nextMessage}, as many as were sent`);
    for (const [number, fragments] of this.#unacknowledged) {
      if (number >= next) break;
      this.#unacknowledged.delete(number);
      this.#unacknowledgedBytes -= fragments[0]?.totalBytes ?? 0;
    }
    for (;;) {
      const [first] = this.#waiting;
      if (!first || !this.#hasRoom(first.message.byteLength)) return;
      this.#waiting.shift();
      this.#enqueue(first.message);
      first.resolve();
    }
  }

  #takePong(open: OpenLane, number: number): void {
    if (number !== open.pingNumber) return;
    const rtt = this.#clock.now() - open.pingAt;
    open.rttMs = open.rttMs === undefined ? rtt : open.rttMs + RTT_GAIN * (rtt - open.rttMs);
  }

  #ping(open: OpenLane): void {
    open.pingNumber = (open.pingNumber + 1) >>> 0;
    open.pingAt = this.#clock.now();
    open.lane.send(encodeFrame({ kind: "ping", number: open.pingNumber }));
  }

  #beat(): void {
    const now = this.#clock.now();
    const late = now - this.#beatAt - this.#options.heartbeatMs;
    this.#beatAt = now;
    const stoodStillMs = late > this.#options.heartbeatMs ? late : 0;
    this.#silence?.excuse(stoodStillMs);
    this.#silentMs = this.#silence?.unusualMs(now) ?? 0;
    for (const open of this.#lanes) {
      // What came meanwhile has not been read yet.
      open.heardAt += stoodStillMs;
      if (now - open.heardAt > this.#options.silenceMs) {
        open.lane.close();
        this.#lose(open, `silent for ${Math.round(now - open.heardAt)} ms`);
        continue;
      }
      // What was said over a lane that is lost since.
      if (open.acknowledged < this.#reassembly.next) this.#acknowledge(open);
      // Whoever is pinged hears as much as whoever pings: one end's pings are enough for both.
      if (now - open.heardAt >= this.#options.heartbeatMs || now - open.pingAt >= MEASURE_BEATS * this.#options.heartbeatMs)
        this.#ping(open);
    }
    // Not every lane tells when it drains.
    this.#pump();
  }

  #lose(open: OpenLane, reason: string): void {
    if (!this.#lanes.delete(open) || this.#ended) return;
    const again: Fragment[] = [];
    for (const fragments of this.#unacknowledged.values())
      for (const fragment of fragments)
        if (fragment.lane === open) {
          fragment.lane = undefined;
          again.push(fragment);
        }
    this.#resent += again.length;
    this.#queue = [...again, ...this.#queue];
    for (const other of this.#lanes) this.#acknowledge(other);
    if (this.#lanes.size === 0) this.#startReconnecting(reason);
    this.#options.onLaneLost?.(this.#lanes.size);
    this.#pump();
  }

  #startReconnecting(reason = "no connection was made"): void {
    const { reconnectMs } = this.#options;
    this.#laneless ??= this.#clock.after(reconnectMs, () =>
      this.#finish(
        new SwarmError("link-lost", `The link to '${this.remote}' is lost: ${reason}, and no new connection within ${reconnectMs} ms`),
      ),
    );
  }

  #finish(error: Error): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#stopHeartbeat();
    this.#laneless?.();
    for (const { lane } of this.#lanes) lane.close();
    this.#lanes.clear();
    this.#unacknowledged.clear();
    this.#queue = [];
    for (const { reject } of this.#waiting.splice(0)) reject(error);
    this.#end(error);
  }
}
