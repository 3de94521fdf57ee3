/** Peers, a relay and links between them over real libp2p and WebRTC, in Deno. */
import type { GpuTest } from "../../../scripts/gpu-tests.ts";
import { hostTests } from "./hosts/inNamespace.ts";

export function tests(): readonly GpuTest[] {
  return hostTests("./rendezvousHost.ts", "", [
    "peers hear of one another through the relay",
    "a link of four WebRTC connections comes about",
    "connections that fail while others come about are tried again",
    "the link lives on while the relay is gone, and peers come back to it by themselves",
    "a non-member reaches nobody and is heard by nobody",
    "where WebRTC does not connect, the relay carries the link, marked as slow",
  ]);
}
