/** How long libp2p waits for a step of getting to know somebody: the other end may be a busy machine without a GPU. */
export const HANDSHAKE_MS = 20_000;

export const TIMEOUTS = {
  dialTimeout: HANDSHAKE_MS,
  addressDialTimeout: HANDSHAKE_MS,
  inboundUpgradeTimeout: HANDSHAKE_MS,
  outboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
  inboundStreamProtocolNegotiationTimeout: HANDSHAKE_MS,
};
