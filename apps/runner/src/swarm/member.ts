/** Entering a swarm from this machine: WebRTC from a package, files from a directory or an address, what was fetched in the cache directory. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { CheckpointFiles } from "@shoal/checkpoint";
import { directoryFiles, isDirectory, locationFiles } from "@shoal/checkpoint/directory";
import {
  type Invite,
  type Link,
  MAX_MANIFEST_BYTES,
  type ManifestStore,
  type NamedManifest,
  type RtcOptions,
  type StageLink,
  SwarmError,
  type SwarmMember,
  enterSwarm as enter,
  filesSource,
  makeManifest,
  parseManifest,
  savedManifest,
} from "@shoal/swarm";
import { denoPeerConnection } from "@shoal/swarm/deno";
import { tinyModelUrl } from "@shoal/tiny-model";
import { RunnerError } from "../errors.ts";
import type { Values } from "../options.ts";
import { chunkDirectory, diskChunks, swarmDirectory, writeWhole } from "./chunkCache.ts";

export interface LocatedMember extends SwarmMember {
  /** A directory that has all of the model, or undefined: then chunks are in the cache. */
  readonly location: string | undefined;
}

export function rtcOptions(values: Values): RtcOptions {
  const iceServers = (values["ice-servers"] ?? []).map((url) => {
    // turn:user:password@host:port
    const [, scheme = "", username = "", credential = "", host = ""] = /^(turns?):([^:@]+):([^@]+)@(.+)$/.exec(url) ?? [];
    return scheme === "" ? { urls: url } : { urls: `${scheme}:${host}`, username, credential };
  });
  return { PeerConnection: denoPeerConnection(), iceServers };
}

/** @param onStage a link by which another peer uses the stage of this one, pushes to it, or offers to hold experts for it */
export async function enterSwarm(
  invite: Invite,
  values: Values,
  signal: AbortSignal,
  onStage?: (link: Link, purpose: StageLink) => void,
): Promise<LocatedMember> {
  const local = await localModel(invite, values);
  const remote = local ? undefined : await remoteFiles(values);
  const entering = enter(
    {
      invite,
      rtc: rtcOptions(values),
      whole: local && { manifest: local.manifest, source: filesSource(directoryFiles(local.location)) },
      store: diskChunks(chunkDirectory(invite.manifestDigest)),
      manifests: MANIFESTS,
      ...(remote && { sources: [filesSource(remote)], makeManifest: (ended) => manifestThere(remote, invite, ended) }),
      ...(onStage && { onStage }),
    },
    signal,
  );
  try {
    return { ...(await entering), location: local?.location };
  } catch (error) {
    if (error instanceof SwarmError && error.field === "model" && remote)
      throw new RunnerError(
        `${error.message}; put it beside the model's files as '${MANIFEST_FILE}', from where 'shoal swarm create' keeps it`,
        {
          cause: error,
        },
      );
    if (error instanceof SwarmError && error.field === "model" && local === undefined)
      throw new RunnerError(`${error.message}; join with '--model' where its files are`, { cause: error });
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
  const wanted = names.filter((file) => /\.(?:safetensors|json|jinja)$/.test(file) && file !== "manifest.json" && file !== MANIFEST_FILE);
  return makeManifest(name, files, wanted, { ...(onBytes && { onBytes }), ...(signal && { signal }) });
}

export function manifestFile({ manifestDigest }: Pick<Invite, "manifestDigest">): string {
  return join(swarmDirectory(), "manifests", `${manifestDigest}.json`);
}

const MANIFESTS: ManifestStore = {
  get: (manifestDigest) => readFile(manifestFile({ manifestDigest }), "utf8"),
  put: (manifestDigest, text) => writeWhole(manifestFile({ manifestDigest }), text),
};

/** Of a named address: its chunks are checked like a peer's, so that nothing need be known of it. */
async function remoteFiles(values: Values): Promise<CheckpointFiles | undefined> {
  const named = values.model ?? values["ckpt-path"];
  return named === undefined ? undefined : await locationFiles(named);
}

/** What an address may have beside the model's files, so that a first peer can begin with them: to make it all of them would have to be read. */
const MANIFEST_FILE = "shoal-manifest.json";

async function manifestThere(files: CheckpointFiles, { manifestDigest }: Invite, signal: AbortSignal): Promise<NamedManifest | undefined> {
  const bytes = await files.read(MANIFEST_FILE, MAX_MANIFEST_BYTES, signal);
  return bytes === null ? undefined : parseManifest(new TextDecoder().decode(bytes), manifestDigest);
}

/** A directory that was named and is the model, or the embedded model if it is the swarm's. */
async function localModel(
  invite: Invite,
  values: Values,
): Promise<{ readonly location: string; readonly manifest: NamedManifest } | undefined> {
  const named = values.model ?? values["ckpt-path"];
  if (named === undefined ? values["no-local"] === true : !(await isDirectory(named))) return undefined;
  const location = named ?? fileURLToPath(tinyModelUrl);
  const saved = named === undefined ? undefined : await savedManifest(invite, MANIFESTS);
  const manifest = saved ?? (await manifestOf(invite.modelName, location));
  if (manifest.digest === invite.manifestDigest) return { location, manifest };
  if (named === undefined) return undefined;
  throw new RunnerError(
    `Cannot serve '${named}' in this swarm: its files have the digest ${manifest.digest}, expected ${invite.manifestDigest}`,
  );
}
