/** Where a swarm's announcements are: a name that says nothing of the swarm to whoever does not know its key. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

export function topicOf(swarm: string): string {
  return `shoal/${bytesToHex(sha256(new TextEncoder().encode(`shoal/topic/1\n${swarm}`)))}`;
}
