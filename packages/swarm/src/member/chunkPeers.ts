/** Links for weights to a few peers: looked for once, used until they end. */
import { SYSTEM_CLOCK, pause } from "../clock.ts";
import { SwarmError } from "../errors.ts";
import type { Peers } from "../peers.ts";
import type { ChunkSource } from "../weights/chunkedFiles.ts";
import { ChunkClient } from "../weights/exchange.ts";
import { type NamedManifest, parseManifest } from "../weights/manifest.ts";

/** How long a peer looks for somebody who has the manifest or a chunk. */
const LOOK_MS = 30_000;
const LOOK_AGAIN_MS = 250;
/** Peers from which weights are read at once. */
const CHUNK_PEERS = 3;

export class ChunkPeers {
  readonly #peers: Peers;
  readonly #signal: AbortSignal;
  #clients: ChunkClient[] = [];

  constructor(peers: Peers, signal: AbortSignal) {
    this.#peers = peers;
    this.#signal = signal;
  }

  /** @throws SwarmError incomplete where nobody has it */
  async manifest(digest: string, lookMs = LOOK_MS): Promise<NamedManifest> {
    await this.open(lookMs);
    for (const client of this.#clients) {
      try {
        return parseManifest(await client.manifest(), digest);
      } catch {
        // The next one may have it.
      }
    }
    throw new SwarmError("incomplete", "Cannot enter the swarm: no peer has the model's manifest, expected one that has joined with it", {
      field: "model",
    });
  }

  /** Waits until somebody is there who has weights. @throws SwarmError incomplete */
  async open(lookMs = LOOK_MS): Promise<void> {
    const end = performance.now() + lookMs;
    while (performance.now() < end) {
      this.#signal.throwIfAborted();
      for (const { peer, layers } of this.#peers.directory.peers()) {
        if (!layers || this.#clients.length >= CHUNK_PEERS || this.#clients.some(({ name }) => name === peer)) continue;
        try {
          const client = new ChunkClient(await this.#peers.connect(peer, "chunks", this.#signal));
          this.#clients.push(client);
          void client.link.closed.then(() => (this.#clients = this.#clients.filter((one) => one !== client)));
        } catch {
          this.#signal.throwIfAborted();
        }
      }
      if (this.#clients.length > 0) return;
      await pause(SYSTEM_CLOCK, LOOK_AGAIN_MS, this.#signal);
    }
    throw new SwarmError(
      "incomplete",
      "Cannot enter the swarm: nobody who has the model is there, expected a peer that joined with its files",
      { field: "model" },
    );
  }

  sources(): readonly ChunkSource[] {
    return this.#clients;
  }
}
