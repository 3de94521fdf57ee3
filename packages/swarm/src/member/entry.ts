/**
 * Entering a swarm by an invite: the rendezvous, the model's manifest, its files from wherever they can be had. For peers that serve and for those that only use it, in whatever
 * runtime: what that has to give is in `EntryOptions`.
 */
import { type CheckpointSource, openCheckpoint } from "@shoal/checkpoint";
import { isPeerId, newIdentity } from "../control/identity.ts";
import type { Invite } from "../control/invite.ts";
import { libp2pRendezvous } from "../control/libp2pRendezvous.ts";
import { joinAs } from "../control/membership.ts";
import { topicOf } from "../control/topic.ts";
import type { Link } from "../link/link.ts";
import { type LinkPurpose, Peers, type PeersOptions } from "../peers.ts";
import { type ChunkSource, type ChunkStore, ChunkedFiles } from "../weights/chunkedFiles.ts";
import { serveChunks } from "../weights/exchange.ts";
import { type NamedManifest, parseManifest } from "../weights/manifest.ts";
import { ChunkPeers } from "./chunkPeers.ts";

/** All of the model's files, on this machine. */
export interface WholeModel {
  readonly manifest: NamedManifest;
  readonly source: ChunkSource & { close(): Promise<void> };
}

/** Texts of manifests by their digests. What comes back is checked again. */
export interface ManifestStore {
  get(digest: string): Promise<string | undefined>;
  put(digest: string, text: string): Promise<void>;
}

/** What links to those who hold layers are for. */
export type StageLink = Exclude<LinkPurpose, "chunks">;

export interface EntryOptions {
  readonly invite: Invite;
  readonly rtc: NonNullable<PeersOptions["rtc"]>;
  /** Absent: chunks come from `sources` and from peers, and are kept in `store`. */
  readonly whole?: WholeModel | undefined;
  readonly store: ChunkStore;
  readonly manifests: ManifestStore;
  /** Asked before peers are: a checkpoint's address, say. One that gave wrong bytes is not asked again. */
  readonly sources?: readonly ChunkSource[];
  /** A last resort for the manifest, where no peer has it: made from the files, say. Its digest is checked. */
  readonly makeManifest?: (signal: AbortSignal) => Promise<NamedManifest | undefined>;
  /** A link by which another peer uses the stage of this one, pushes to it, or offers to hold experts for it; absent for those that only use the swarm. */
  readonly onStage?: (link: Link, purpose: StageLink) => void;
  readonly onBytes?: (bytes: number) => void;
}

export interface SwarmMember {
  readonly peers: Peers;
  readonly manifest: NamedManifest;
  readonly files: ChunkedFiles;
  readonly checkpoint: CheckpointSource;
  /** Whether all of the model is here: nothing need be fetched. */
  readonly isWhole: boolean;
  close(): Promise<void>;
}

/** @throws SwarmError link-lost where no relay answers, incomplete where nobody has the model */
export async function enterSwarm(options: EntryOptions, signal: AbortSignal): Promise<SwarmMember> {
  const { invite, rtc, whole, store, manifests, onStage, onBytes, sources: extra = [] } = options;
  const identity = await newIdentity();
  const membership = await joinAs(identity.id, invite.swarm, invite.identity, invite.certificate);
  const rendezvous = await libp2pRendezvous({ identity, relays: invite.relays, topic: topicOf(invite.swarm) }, signal);
  performance.mark("swarm: relay");
  let own: ChunkedFiles | undefined;
  let text = "";
  const peers = new Peers({
    identity,
    membership,
    swarm: invite.swarm,
    model: invite.manifestDigest,
    rendezvous,
    rtc,
    onLink: (link, purpose) => {
      if (purpose === "chunks")
        serveChunks(
          link,
          () => own && { manifestText: text, chunk: (file, index) => own?.chunk(file, index) ?? Promise.resolve(undefined) },
        );
      else if (onStage) onStage(link, purpose);
      else link.close("this peer only uses the swarm");
    },
  });
  try {
    const givers = new ChunkPeers(peers, signal);
    const manifest = whole?.manifest ?? (await savedManifest(invite, manifests)) ?? (await findManifest(options, givers, signal));
    await manifests.put(manifest.digest, manifest.text);
    performance.mark("swarm: manifest");
    ({ text } = manifest);
    const kept = whole ? {} : { store };
    // What is given to others: nothing is fetched for them.
    own = new ChunkedFiles({ manifest: manifest.manifest, ...kept, sources: () => (whole ? [whole.source] : []) });
    if (!whole && extra.length === 0) await givers.open();
    else if (!whole) void givers.open().catch(() => {});
    const bad = new Set<string>();
    const files = new ChunkedFiles({
      manifest: manifest.manifest,
      ...kept,
      keptBytes: KEPT_BYTES,
      ...(onBytes && { onBytes }),
      sources: () => (whole ? [whole.source] : [...extra.filter(({ name }) => !bad.has(name)), ...givers.sources()]),
      onBadChunk: (source) => {
        if (isPeerId(source)) peers.ban(source, "its weights are not the model's");
        else bad.add(source);
      },
    });
    const checkpoint = await openCheckpoint(files, { signal });
    performance.mark("swarm: checkpoint");
    return {
      peers,
      manifest,
      files,
      checkpoint,
      isWhole: whole !== undefined,
      close: async () => {
        await checkpoint.close();
        await whole?.source.close();
        await peers.close();
      },
    };
  } catch (error) {
    await peers.close();
    throw error;
  }
}

export async function savedManifest({ manifestDigest }: Invite, manifests: ManifestStore): Promise<NamedManifest | undefined> {
  try {
    return parseManifest((await manifests.get(manifestDigest)) ?? "", manifestDigest);
  } catch {
    // None is saved, or a damaged one: peers have it.
    return undefined;
  }
}

/** From peers that are there, else made, else from peers that may still come. */
async function findManifest({ invite, makeManifest }: EntryOptions, givers: ChunkPeers, signal: AbortSignal): Promise<NamedManifest> {
  if (!makeManifest) return givers.manifest(invite.manifestDigest);
  try {
    return await givers.manifest(invite.manifestDigest, HEARD_BY_MS);
  } catch {
    // Nobody had it in time.
    signal.throwIfAborted();
  }
  const made = await makeManifest(signal);
  return made?.digest === invite.manifestDigest ? made : givers.manifest(invite.manifestDigest);
}

/** Of checked chunks, while layers are loaded: a small model's are read once for all, a large one's not once for each of their tensors. */
const KEPT_BYTES = 2 ** 26;
/** An announcement of everybody, and some. */
const HEARD_BY_MS = 3000;
