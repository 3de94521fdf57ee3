/** WebRTC in Deno: `@roamhq/wrtc`, libwebrtc as a Node-API addon. */
import wrtc from "@roamhq/wrtc";
import type { PeerConnectionConstructor } from "./rtcNegotiator.ts";

export function denoPeerConnection(): PeerConnectionConstructor {
  return wrtc.RTCPeerConnection;
}
