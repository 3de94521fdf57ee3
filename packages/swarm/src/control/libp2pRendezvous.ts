/**
 * Rendezvous over js-libp2p: WebSockets to relays, circuits through them to peers, gossipsub for what concerns all. Only its core packages: its own WebRTC transport does not run
 * in Deno. When the last relay is gone the node is made anew, with the same key, until one answers: links that exist do not need it.
 */
import { circuitRelayTransport } from "@libp2p/circuit-relay-v2";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import type { Connection, Stream } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { ping } from "@libp2p/ping";
import { webSockets } from "@libp2p/websockets";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { SYSTEM_CLOCK, pause } from "../clock.ts";
import { SwarmError } from "../errors.ts";
import type { Identity } from "./identity.ts";
import type { PeerChannel, Rendezvous, RendezvousEvents } from "./rendezvous.ts";
import { streamChannel } from "./streamChannel.ts";
import { HANDSHAKE_MS, INBOUND, SCORES, TIMEOUTS } from "./timeouts.ts";

export const LINK_PROTOCOL = "/shoal/link/1.0.0";
const RELAY_LOOK_MS = 1000;
const RETRY_MS = [500, 1000, 2000, 5000];
const OPEN_MS = 20_000;
/** A relay that is asked while it starts, or a machine that is busy loading a model, may need several tries. */
const STARTS = 6;
const MAX_MESSAGE_BYTES = 64 * 1024;

export interface Libp2pOptions {
  readonly identity: Identity;
  /** Multiaddresses with the relay's peer id at the end. */
  readonly relays: readonly string[];
  readonly topic: string;
  /** Told when relays come and go. */
  readonly onRelays?: (connected: boolean) => void;
}

/** @throws SwarmError link-lost where no relay answers within the time of the signal */
export async function libp2pRendezvous(options: Libp2pOptions, signal?: AbortSignal): Promise<Rendezvous> {
  const rendezvous = new Libp2pRendezvous(options);
  try {
    await rendezvous.start(signal);
  } catch (cause) {
    throw new SwarmError("link-lost", `Cannot reach a relay of the swarm: ${options.relays.join(", ")}`, { cause });
  }
  return rendezvous;
}

function createNode({ identity, relays }: Libp2pOptions) {
  return createLibp2p({
    privateKey: identity.privateKey,
    addresses: { listen: relays.map((relay) => `${relay}/p2p-circuit`) },
    transports: [webSockets(), circuitRelayTransport({ reservationCompletionTimeout: HANDSHAKE_MS })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { ...TIMEOUTS, ...INBOUND },
    connectionGater: { denyDialMultiaddr: () => false },
    services: {
      identify: identify(),
      ping: ping(),
      // A swarm is small, and its peers are connected to a relay alone: every message goes to every topic peer.
      pubsub: gossipsub({
        allowPublishToZeroTopicPeers: true,
        floodPublish: true,
        scoreParams: SCORES,
        maxInboundDataLength: 2 * MAX_MESSAGE_BYTES,
      }),
    },
  });
}

type Node = Awaited<ReturnType<typeof createNode>>;

class Libp2pRendezvous implements Rendezvous {
  readonly id: string;
  readonly #options: Libp2pOptions;
  readonly #closing = new AbortController();
  #node: Node | undefined;
  #events: RendezvousEvents | undefined;
  #early: PeerChannel[] = [];

  constructor(options: Libp2pOptions) {
    this.id = options.identity.id;
    this.#options = options;
  }

  async start(signal?: AbortSignal): Promise<void> {
    for (let attempt = 1; !this.#node; attempt++) {
      signal?.throwIfAborted();
      try {
        this.#node = await this.#make();
      } catch (error) {
        if (attempt === STARTS) throw error;
        await pause(SYSTEM_CLOCK, RETRY_MS[Math.min(attempt - 1, RETRY_MS.length - 1)] ?? 0, signal);
      }
    }
    void this.#supervise();
  }

  listen(events: RendezvousEvents): void {
    this.#events = events;
    for (const channel of this.#early.splice(0)) events.onChannel(channel);
  }

  async open(peer: string, signal?: AbortSignal): Promise<PeerChannel> {
    const node = this.#node;
    if (!node) throw new SwarmError("link-lost", `Cannot reach '${peer}': no relay answers`);
    const circuits = this.#options.relays.map((relay) => multiaddr(`${relay}/p2p-circuit/p2p/${peer}`));
    const limit = AbortSignal.any([AbortSignal.timeout(OPEN_MS), this.#closing.signal, ...(signal ? [signal] : [])]);
    try {
      const connection = await node.dial(circuits, { signal: limit });
      const stream = await connection.newStream(LINK_PROTOCOL, { runOnLimitedConnection: true, signal: limit });
      return streamChannel(stream, peer);
    } catch (cause) {
      throw new SwarmError(
        "link-lost",
        `Cannot reach '${peer}' through the relay: ${cause instanceof Error ? cause.message : String(cause)}`,
        { cause },
      );
    }
  }

  publish(message: Uint8Array): void {
    // Lost while there is no relay: the next announcement says the same.
    this.#node?.services.pubsub.publish(this.#options.topic, message).catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    await this.#node?.stop();
    this.#node = undefined;
  }

  async #make(): Promise<Node> {
    const node = await createNode(this.#options);
    try {
      await node.handle(LINK_PROTOCOL, (stream, connection) => this.#accept(stream, connection), { runOnLimitedConnection: true });
      const { pubsub } = node.services;
      pubsub.subscribe(this.#options.topic);
      pubsub.addEventListener("message", ({ detail }) => {
        if (detail.type !== "signed" || detail.topic !== this.#options.topic || detail.data.byteLength > MAX_MESSAGE_BYTES) return;
        this.#events?.onMessage(detail.from.toString(), detail.data);
      });
      if (!reachesRelay(node, this.#options.relays)) throw new SwarmError("link-lost", "No relay gave a reservation");
      return node;
    } catch (error) {
      await node.stop();
      throw error;
    }
  }

  #accept(stream: Stream, connection: Connection): void {
    const channel = streamChannel(stream, connection.remotePeer.toString());
    if (this.#events) this.#events.onChannel(channel);
    else this.#early.push(channel);
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#closing;
    const { onRelays, relays } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      try {
        await pause(SYSTEM_CLOCK, this.#node ? RELAY_LOOK_MS : (RETRY_MS[Math.min(failures, RETRY_MS.length - 1)] ?? 0), signal);
        if (this.#node && reachesRelay(this.#node, relays)) continue;
        if (this.#node) {
          onRelays?.(false);
          const lost = this.#node;
          this.#node = undefined;
          await lost.stop();
        }
        this.#node = await this.#make();
        failures = 0;
        onRelays?.(true);
      } catch {
        failures++;
      }
    }
    await this.#node?.stop();
  }
}

function reachesRelay(node: Node, relays: readonly string[]): boolean {
  const ids = relays.map((relay) => relay.slice(relay.lastIndexOf("/") + 1));
  return node.getConnections().some(({ remotePeer, status }) => status === "open" && ids.includes(remotePeer.toString()));
}
