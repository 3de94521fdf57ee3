/**
 * Makes lanes with one peer over WebRTC. What the two say to each other meanwhile, session descriptions and candidates, goes through `send` and `take`: over a stream that has
 * proven who is at its other end, because whoever can change a description can sit in the middle. The side that dials offers; each lane has a number of the dialler's choice.
 */
import { SwarmError, malformed } from "../errors.ts";
import type { Lane } from "./lane.ts";
import { rtcLane } from "./rtcLane.ts";

/** The constructor of a browser, or of a package that brings it to Deno. */
export type PeerConnectionConstructor = new (configuration?: RTCConfiguration) => RTCPeerConnection;

export interface RtcOptions {
  readonly PeerConnection: PeerConnectionConstructor;
  /** STUN and TURN; none by default: then only addresses of the machine's own are tried. */
  readonly iceServers?: readonly RTCIceServer[];
  /** Only through TURN, so that peers do not learn one another's addresses. */
  readonly relayOnly?: boolean;
}

export type Signal =
  | { readonly kind: "offer"; readonly lane: number; readonly sdp: string }
  | { readonly kind: "answer"; readonly lane: number; readonly sdp: string }
  | {
      readonly kind: "candidate";
      readonly lane: number;
      readonly candidate: string;
      readonly mid: string | null;
      readonly line: number | null;
    };

/** Makes lanes with one peer. */
export interface Negotiator {
  /** Begins one lane; it comes by the `lane` callback, or `failure` is called. */
  offer(): Promise<void>;
  /** What the other side said. @throws SwarmError named malformed for what the protocol does not allow here */
  take(signal: Signal): Promise<void>;
  close(): void;
}

export interface NegotiatorEvents {
  readonly send: (signal: Signal) => void;
  readonly lane: (lane: Lane) => void;
  readonly failure?: (lane: number) => void;
}

/** Where RTCPeerConnection is not at hand, as in a worker: somebody else negotiates. */
export type MakeNegotiator = (on: NegotiatorEvents) => Negotiator;

/** Lanes that one signalling stream may make in its life: four, and a new one for each that was lost. */
export const MAX_LANES = 1024;
/** Of one lane; a machine has a few addresses. */
const MAX_CANDIDATES = 64;
/** Connections that one peer may have us hold open at once. */
const MAX_CONNECTING = 8;
export const CONNECT_MS = 15_000;
/** Both ends open the channel with this number themselves, which saves a round trip. */
const CHANNEL_ID = 0;

interface Attempt {
  readonly connection: RTCPeerConnection;
  readonly channel: RTCDataChannel;
  /** Candidates that came before their description. */
  readonly early: RTCIceCandidateInit[];
  described: boolean;
  /** Candidates of our own, found before our description was sent. */
  readonly found: Signal[];
  told: boolean;
  candidates: number;
  readonly timer: ReturnType<typeof setTimeout>;
}

export class RtcNegotiator implements Negotiator {
  readonly #options: RtcOptions;
  readonly #send: (signal: Signal) => void;
  readonly #onLane: (lane: Lane) => void;
  readonly #onFailure: (lane: number) => void;
  readonly #attempts = new Map<number, Attempt>();
  readonly #used = new Set<number>();
  #nextLane = 0;
  #closed = false;

  constructor(options: RtcOptions, on: NegotiatorEvents) {
    this.#options = options;
    this.#send = on.send;
    this.#onLane = on.lane;
    this.#onFailure = on.failure ?? (() => {});
  }

  async offer(): Promise<void> {
    const lane = this.#nextLane++;
    const attempt = this.#begin(lane);
    try {
      const description = await attempt.connection.createOffer();
      if (!this.#isUnderWay(lane, attempt)) return;
      await attempt.connection.setLocalDescription(description);
      this.#tell(attempt, { kind: "offer", lane, sdp: description.sdp ?? "" });
    } catch {
      this.#fail(lane);
    }
  }

  async take(signal: Signal): Promise<void> {
    if (this.#closed) return;
    const { lane } = signal;
    if (signal.kind === "offer") return this.#answer(lane, signal.sdp);
    const attempt = this.#attempts.get(lane);
    // Late candidates of a lane that is open, or that failed.
    if (!attempt) {
      if (this.#used.has(lane) || lane < this.#nextLane) return;
      throw malformed("a signal", "its lane", lane, "one that was offered");
    }
    if (signal.kind !== "candidate") return this.#describe(lane, attempt, "answer", signal.sdp);
    if (++attempt.candidates > MAX_CANDIDATES)
      throw malformed("a signal", "the number of candidates", attempt.candidates, `at most ${MAX_CANDIDATES}`);
    const candidate = { candidate: signal.candidate, sdpMid: signal.mid, sdpMLineIndex: signal.line };
    if (attempt.described) await addCandidate(attempt.connection, candidate);
    else attempt.early.push(candidate);
  }

  close(): void {
    this.#closed = true;
    for (const lane of this.#attempts.keys()) this.#fail(lane);
  }

  async #answer(lane: number, sdp: string): Promise<void> {
    if (this.#used.has(lane)) throw malformed("a signal", "its lane", lane, "one that was not offered before");
    if (this.#used.size >= MAX_LANES || this.#attempts.size >= MAX_CONNECTING)
      throw new SwarmError(
        "overloaded",
        `Cannot open another lane: ${this.#attempts.size} are being opened, ${this.#used.size} were offered`,
      );
    this.#used.add(lane);
    const attempt = this.#begin(lane);
    await this.#describe(lane, attempt, "offer", sdp);
    if (!this.#isUnderWay(lane, attempt)) return;
    try {
      const description = await attempt.connection.createAnswer();
      if (!this.#isUnderWay(lane, attempt)) return;
      await attempt.connection.setLocalDescription(description);
      this.#tell(attempt, { kind: "answer", lane, sdp: description.sdp ?? "" });
    } catch {
      this.#fail(lane);
    }
  }

  /**
   * The description first: candidates may be found before it is even set. As it was made, not as `localDescription` has it: that gains candidates on another thread, and `@roamhq/wrtc` 0.10
   * crashes now and then where it is read meanwhile.
   */
  #tell(attempt: Attempt, description: Signal): void {
    this.#send(description);
    attempt.told = true;
    for (const signal of attempt.found.splice(0)) this.#send(signal);
  }

  async #describe(lane: number, attempt: Attempt, type: "offer" | "answer", sdp: string): Promise<void> {
    try {
      await attempt.connection.setRemoteDescription({ type, sdp });
      attempt.described = true;
      for (const candidate of attempt.early.splice(0)) {
        if (!this.#isUnderWay(lane, attempt)) return;
        await addCandidate(attempt.connection, candidate);
      }
    } catch {
      this.#fail(lane);
    }
  }

  /** A connection that was closed meanwhile must not be asked for anything: `@roamhq/wrtc` 0.10 would refuse by way of an event loop that it has ended, and the process ends as well. */
  #isUnderWay(lane: number, attempt: Attempt): boolean {
    return this.#attempts.get(lane) === attempt;
  }

  #begin(lane: number): Attempt {
    const { PeerConnection, iceServers = [], relayOnly = false } = this.#options;
    const connection = new PeerConnection({ iceServers: [...iceServers], iceTransportPolicy: relayOnly ? "relay" : "all" });
    const channel = connection.createDataChannel("shoal", { negotiated: true, id: CHANNEL_ID, ordered: true });
    const attempt: Attempt = {
      connection,
      channel,
      early: [],
      described: false,
      found: [],
      told: false,
      candidates: 0,
      timer: setTimeout(() => this.#fail(lane), CONNECT_MS),
    };
    this.#attempts.set(lane, attempt);
    connection.addEventListener("icecandidate", ({ candidate }) => {
      if (!candidate || candidate.candidate === "" || this.#closed) return;
      const { candidate: text, sdpMid: mid, sdpMLineIndex: line } = candidate;
      const signal: Signal = { kind: "candidate", lane, candidate: text, mid, line };
      if (attempt.told) this.#send(signal);
      else attempt.found.push(signal);
    });
    connection.addEventListener("connectionstatechange", () => {
      if (connection.connectionState === "failed") this.#fail(lane);
    });
    const open = (): void => {
      clearTimeout(attempt.timer);
      if (this.#attempts.delete(lane)) this.#onLane(made);
    };
    // At once, so that no frame is missed.
    const made = rtcLane(connection, channel);
    if (channel.readyState === "open") open();
    else channel.addEventListener("open", open);
    return attempt;
  }

  #fail(lane: number): void {
    const attempt = this.#attempts.get(lane);
    if (!attempt) return;
    this.#attempts.delete(lane);
    clearTimeout(attempt.timer);
    attempt.connection.close();
    this.#onFailure(lane);
  }
}

/** Browsers refuse candidates of protocols that they do not know, which others may offer. */
async function addCandidate(connection: RTCPeerConnection, candidate: RTCIceCandidateInit): Promise<void> {
  await connection.addIceCandidate(candidate).catch(() => undefined);
}
