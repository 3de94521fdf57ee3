/** What a page's main thread has to do for a peer that runs in its worker, which has no RTCPeerConnection: negotiate, and pass frames on. Small, without libp2p. */
export { negotiateFor } from "./link/rtcBroker.ts";
