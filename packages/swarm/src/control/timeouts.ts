/** How long libp2p waits for a step of getting to know somebody: the other end may be a busy machine without a GPU. */
export const HANDSHAKE_MS = 20_000;

export const TIMEOUTS = {
  dialTimeout: HANDSHAKE_MS,
  addressDialTimeout: HANDSHAKE_MS,
  inboundUpgradeTimeout: HANDSHAKE_MS,
  outboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
  inboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
};

/** Connections at once, and in a second, from one address: that of the relay, for all circuits, or of a house with several machines. libp2p's 10 and 5 make those who come at once wait for time-outs. */
const AT_ONCE = 64;

export const INBOUND = { maxIncomingPendingConnections: AT_ONCE, inboundConnectionThreshold: AT_ONCE };

/** Of gossipsub: many peers of one address are a house, or come by one relay, and no attack; who belongs to a swarm is proven. */
export const SCORES = { IPColocationFactorWeight: 0 };
