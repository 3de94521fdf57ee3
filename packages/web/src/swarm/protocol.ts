/** What crosses between a page and its swarm's worker. */
import type { ContributionPhase } from "@shoal/swarm";

export interface SwarmOptions {
  /** `shoal:...`, or an address that ends with it. */
  readonly invite: string;
  /** Addresses of folders where the model's files may lie: asked before peers are. Every byte is checked against the invite, so that a wrong one does no harm. */
  readonly addresses?: readonly string[];
  /** STUN and TURN. Without them only machines that can reach one another directly connect. */
  readonly iceServers?: readonly RTCIceServer[];
}

export interface SwarmFacts {
  readonly model: string;
  readonly nLayers: number;
  /** This peer's name. */
  readonly peer: string;
}

export interface ContributeOptions {
  /** Of weights, KV cache and activations. */
  readonly memoryBytes: number;
  /** Tokens of a conversation; by default 4096, or what the model has. */
  readonly contextTokens?: number;
  /** Conversations at once. */
  readonly maxSequences?: number;
}

/** Somebody who holds layers, or is about to. */
export interface PeerView {
  readonly peer: string;
  readonly isSelf: boolean;
  readonly kind: "deno" | "browser";
  readonly state: "claiming" | "serving" | "leaving";
  readonly layers: { readonly begin: number; readonly end: number };
  readonly memoryBytes: number;
  /** One token through its layers, as it has measured. */
  readonly stepMs: number;
  readonly load: number;
  /** Through its layers, of late. */
  readonly tokensPerSecond: number;
  readonly freeKvTokens: number;
  /** There and back, measured by this peer; null where there is no link. */
  readonly rttMs: number | null;
  /** "webrtc", or "relay" where nothing else connects: slow. Null where there is no link. */
  readonly link: string | null;
  /** Who else has routed experts of its layers: from `begin` up to `end`, of each. */
  readonly helpers: readonly { readonly peer: string; readonly begin: number; readonly end: number }[];
}

export interface ContributionView {
  readonly phase: ContributionPhase;
  readonly memoryBytes: number;
  /** Of weights that came so far, from peers or an address. */
  readonly fetchedBytes: number;
  /** Links by which others use this device now. */
  readonly users: number;
}

export interface SwarmView extends SwarmFacts {
  readonly peers: readonly PeerView[];
  /** Who only uses it, this page not counted. */
  readonly clients: number;
  /** Layers that nobody holds. */
  readonly missing: readonly number[];
  /** Whether there is a path through all layers. */
  readonly isComplete: boolean;
  /** The peers through which this page's answers go, in order; empty before the first. */
  readonly path: readonly string[];
  /** Of this page's answers, over the last seconds; null while none is written. */
  readonly tokensPerSecond: number | null;
  readonly contribution: ContributionView | null;
  /** Why the contribution ended by itself. */
  readonly problem: string | null;
  /** What became of peers, the newest last. */
  readonly events: readonly string[];
}
