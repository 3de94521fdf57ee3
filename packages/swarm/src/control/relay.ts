/**
 * The rendezvous: a WebSocket relay through which peers behind routers reach one another to agree on a direct connection. It knows no swarm: it passes on what peers of a topic
 * publish, and bytes that are encrypted between two peers. Its key names it in invites.
 */
import { circuitRelayServer } from "@libp2p/circuit-relay-v2";
import { gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import { noise } from "@libp2p/noise";
import { ping } from "@libp2p/ping";
import { webSockets } from "@libp2p/websockets";
import { yamux } from "@libp2p/yamux";
import { createLibp2p } from "libp2p";
import type { Identity } from "./identity.ts";
import { HANDSHAKE_MS, INBOUND, SCORES, TIMEOUTS } from "./timeouts.ts";

/** Peers that may be reached through one relay at once. */
const MAX_RESERVATIONS = 1024;
/** Swarms that one relay serves. */
const MAX_TOPICS = 256;
/** What one circuit may carry: enough for signals of many links, and for a slow conversation where nothing else connects. */
const CIRCUIT_BYTES = 256n * 2n ** 20n;
const CIRCUIT_MS = 6 * 3_600_000;
const TOPIC = /^shoal\/[0-9a-f]{64}$/;

export interface RelayOptions {
  readonly identity: Identity;
  readonly host: string;
  readonly port: number;
  /** PEM: then it speaks TLS, which pages from https need. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

export interface Relay {
  /** Multiaddresses, as invites hold them. */
  readonly addresses: readonly string[];
  peers(): number;
  close(): Promise<void>;
}

export async function startRelay({ identity, host, port, tls }: RelayOptions): Promise<Relay> {
  const kind = host.includes(":") ? "ip6" : "ip4";
  const node = await createLibp2p({
    privateKey: identity.privateKey,
    addresses: { listen: [`/${kind}/${host}/tcp/${port}/${tls ? "wss" : "ws"}`] },
    transports: [webSockets(tls ? { https: { key: tls.key, cert: tls.cert } } : {})],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionManager: { ...TIMEOUTS, ...INBOUND, maxConnections: 2 * MAX_RESERVATIONS },
    services: {
      identify: identify(),
      ping: ping(),
      pubsub: gossipsub({ allowPublishToZeroTopicPeers: true, floodPublish: true, scoreParams: SCORES }),
      relay: circuitRelayServer({
        hopTimeout: HANDSHAKE_MS,
        reservations: { maxReservations: MAX_RESERVATIONS, defaultDataLimit: CIRCUIT_BYTES, defaultDurationLimit: CIRCUIT_MS },
      }),
    },
  });
  const { pubsub } = node.services;
  // Whoever is subscribed to a topic passes its messages on.
  pubsub.addEventListener("subscription-change", ({ detail: { subscriptions } }) => {
    for (const { topic, subscribe } of subscriptions)
      if (subscribe && TOPIC.test(topic) && pubsub.getTopics().length < MAX_TOPICS) pubsub.subscribe(topic);
      else if (!subscribe && pubsub.getSubscribers(topic).length === 0) pubsub.unsubscribe(topic);
  });
  return {
    addresses: node.getMultiaddrs().map(String),
    peers: () => node.getPeers().length,
    close: async () => {
      await node.stop();
    },
  };
}
