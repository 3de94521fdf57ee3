/** Entering a swarm by an invite: the rendezvous, the model's manifest, its files from wherever they can be had. For peers that serve and for those that only use it. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type CheckpointSource, openCheckpoint } from "@shoal/checkpoint";
import { directoryFiles } from "@shoal/checkpoint/directory";
import {
  ChunkClient,
  type ChunkSource,
  ChunkedFiles,
  type Invite,
  type Link,
  type NamedManifest,
  Peers,
  type RtcOptions,
  filesSource,
  joinAs,
  libp2pRendezvous,
  makeManifest,
  newIdentity,
  parseManifest,
  serveChunks,
  topicOf,
} from "@shoal/swarm";
import { denoPeerConnection } from "@shoal/swarm/deno";
import { tinyModelUrl } from "@shoal/tiny-model";
import { RunnerError } from "../errors.ts";
import type { Values } from "../options.ts";
import { chunkDirectory, diskChunks, swarmDirectory, writeWhole } from "./chunkCache.ts";

/** How long a peer looks for somebody who has the manifest or a chunk. */
const LOOK_MS = 30_000;
const LOOK_AGAIN_MS = 250;
/** Peers from which weights are read at once. */
const CHUNK_PEERS = 3;

export interface SwarmMember {
  readonly peers: Peers;
  readonly manifest: NamedManifest;
  readonly files: ChunkedFiles;
  readonly checkpoint: CheckpointSource;
  /** A directory that has all of the model, or undefined: then chunks are in the cache. */
  readonly location: string | undefined;
  close(): Promise<void>;
}

export function rtcOptions(values: Values): RtcOptions {
  const iceServers = (values["ice-servers"] ?? []).map((url) => {
    // turn:user:password@host:port
    const [, scheme = "", username = "", credential = "", host = ""] = /^(turns?):([^:@]+):([^@]+)@(.+)$/.exec(url) ?? [];
    return scheme === "" ? { urls: url } : { urls: `${scheme}:${host}`, username, credential };
  });
  return { PeerConnection: denoPeerConnection(), iceServers };
}

/** @param onStage a link by which another peer uses the stage of this one */
export async function enterSwarm(
  invite: Invite,
  values: Values,
  signal: AbortSignal,
  onStage?: (link: Link) => void,
): Promise<SwarmMember> {
  const identity = await newIdentity();
  const membership = await joinAs(identity.id, invite.swarm, invite.identity, invite.certificate);
  const rendezvous = await libp2pRendezvous({ identity, relays: invite.relays, topic: topicOf(invite.swarm) }, signal);
  let own: ChunkedFiles | undefined;
  let text = "";
  const peers = new Peers({
    identity,
    membership,
    swarm: invite.swarm,
    model: invite.manifestDigest,
    rendezvous,
    rtc: rtcOptions(values),
    onLink: (link, purpose) => {
      if (purpose === "chunks")
        serveChunks(link, () => own && { manifestText: text, chunk: (file, index) => own?.chunk(file, index) ?? nothing() });
      else if (onStage) onStage(link);
      else link.close("this peer only uses the swarm");
    },
  });
  try {
    const local = await localModel(invite, values);
    const exchange = new Exchange(peers, signal);
    const manifest = local?.manifest ?? (await savedManifest(invite)) ?? (await exchange.manifest(invite));
    await writeWhole(manifestFile(invite), manifest.text);
    ({ text } = manifest);
    const disk = local && filesSource(directoryFiles(local.location));
    const store = diskChunks(chunkDirectory(manifest.digest));
    const kept = disk ? {} : { store };
    own = new ChunkedFiles({ manifest: manifest.manifest, ...kept, sources: () => (disk ? [disk] : []) });
    if (!disk) await exchange.open();
    const files = new ChunkedFiles({
      manifest: manifest.manifest,
      ...kept,
      sources: () => (disk ? [disk] : exchange.sources()),
      onBadChunk: (peer) => peers.ban(peer, "its weights are not the model's"),
    });
    const checkpoint = await openCheckpoint(files, { signal });
    return {
      peers,
      manifest,
      files,
      checkpoint,
      location: local?.location,
      close: async () => {
        await disk?.close();
        await peers.close();
      },
    };
  } catch (error) {
    await peers.close();
    throw error;
  }
}

/** The files of a model that a swarm's manifest lists: all but a list of their digests. */
export async function manifestOf(
  name: string,
  location: string,
  onBytes?: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<NamedManifest> {
  const files = directoryFiles(location);
  const names = (await files.list()) ?? [];
  const wanted = names.filter((file) => /\.(?:safetensors|json|jinja)$/.test(file) && file !== "manifest.json");
  return makeManifest(name, files, wanted, { ...(onBytes && { onBytes }), ...(signal && { signal }) });
}

export function manifestFile({ manifestDigest }: Pick<Invite, "manifestDigest">): string {
  return join(swarmDirectory(), "manifests", `${manifestDigest}.json`);
}

/** A directory that was named and is the model, or the embedded model if it is the swarm's. */
async function localModel(
  invite: Invite,
  values: Values,
): Promise<{ readonly location: string; readonly manifest: NamedManifest } | undefined> {
  const named = values.model ?? values["ckpt-path"];
  if (named === undefined && values["no-local"] === true) return undefined;
  const location = named ?? fileURLToPath(tinyModelUrl);
  const saved = named === undefined ? undefined : await savedManifest(invite);
  const manifest = saved ?? (await manifestOf(invite.modelName, location));
  if (manifest.digest === invite.manifestDigest) return { location, manifest };
  if (named === undefined) return undefined;
  throw new RunnerError(
    `Cannot serve '${named}' in this swarm: its files have the digest ${manifest.digest}, expected ${invite.manifestDigest}`,
  );
}

async function savedManifest(invite: Invite): Promise<NamedManifest | undefined> {
  try {
    return parseManifest(await readFile(manifestFile(invite), "utf8"), invite.manifestDigest);
  } catch {
    return undefined;
  }
}

/** Links for weights to a few peers. */
class Exchange {
  readonly #peers: Peers;
  readonly #signal: AbortSignal;
  #clients: ChunkClient[] = [];

  constructor(peers: Peers, signal: AbortSignal) {
    this.#peers = peers;
    this.#signal = signal;
  }

  async manifest(invite: Invite): Promise<NamedManifest> {
    await this.open();
    for (const client of this.#clients) {
      try {
        return parseManifest(await client.manifest(), invite.manifestDigest);
      } catch {
        // The next one may have it.
      }
    }
    throw new RunnerError("Cannot enter the swarm: no peer has the model's manifest, expected one that has joined with it");
  }

  /** Waits until somebody is there who has weights. */
  async open(): Promise<void> {
    const end = performance.now() + LOOK_MS;
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
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
    }
    throw new RunnerError("Cannot enter the swarm: nobody who has the model is there; join with '--model' where its files are");
  }

  sources(): readonly ChunkSource[] {
    return this.#clients;
  }
}

function nothing(): Promise<undefined> {
  return Promise.resolve(undefined);
}
