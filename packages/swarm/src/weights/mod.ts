/** Weights by chunks, without the rest of a swarm: for the thread that loads them. */
export { type ChunkSource, ChunkedFiles, type ChunkStore, filesSource } from "./chunkedFiles.ts";
export { type Manifest, type NamedManifest, makeManifest, parseManifest } from "./manifest.ts";
export { neededChunks } from "./needed.ts";
