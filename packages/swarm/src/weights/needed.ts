/** Which chunks hold the tensors of some layers, and of the MTP module behind the last; or of those some experts, or all but some. */
import { type CheckpointSource, tensorSchema } from "@shoal/checkpoint";
import type { ExpertRange } from "../plan/experts.ts";
import type { LayerRange } from "../plan/range.ts";
import type { Manifest } from "./manifest.ts";

export interface ChunkName {
  readonly file: string;
  readonly index: number;
}

/** Whose layers' experts are not all wanted, or nothing else. */
export interface NeededParts {
  readonly mtp?: boolean;
  /** Of each MoE layer; all by default. */
  readonly experts?: ExpertRange;
  /** Whether nothing but experts is needed. */
  readonly expertsAlone?: boolean;
}

export function neededChunks(
  checkpoint: Pick<CheckpointSource, "config" | "tensors">,
  manifest: Manifest,
  range: LayerRange,
  { mtp = false, experts, expertsAlone = false }: NeededParts = {},
): readonly ChunkName[] {
  const { config, tensors } = checkpoint;
  const needed = new Map<string, ChunkName>();
  for (const spec of tensorSchema(config)) {
    if (!belongs(spec, config, range) && !(mtp && range.end === config.nLayers && belongsToMtp(spec))) continue;
    const isExpert = spec.role === "routedExpert";
    if (isExpert ? experts && !(spec.expert !== null && spec.expert >= experts.begin && spec.expert < experts.end) : expertsAlone) continue;
    for (const name of [spec.name, spec.scaleName]) {
      const info = name === undefined ? undefined : tensors.tensors.get(name);
      if (!info) continue;
      for (let index = Math.floor(info.begin / manifest.chunkBytes); index * manifest.chunkBytes < info.end; index++)
        needed.set(`${info.file}#${index}`, { file: info.file, index });
    }
  }
  return [...needed.values()];
}

function belongs(
  { name, layer }: { readonly name: string; readonly layer: number | null },
  { nLayers, tieWordEmbeddings }: CheckpointSource["config"],
  { begin, end }: LayerRange,
): boolean {
  if (layer !== null) return layer >= begin && layer < end;
  if (name === "model.embed_tokens.weight") return begin === 0 || (tieWordEmbeddings && end === nLayers);
  return end === nLayers;
}

/** Its own tensors, but for those that are the model's once more, and the embedding, which it shares. */
function belongsToMtp({
  name,
  mtp,
  duplicateOf,
}: {
  readonly name: string;
  readonly mtp: boolean;
  readonly duplicateOf: string | null;
}): boolean {
  return name === "model.embed_tokens.weight" || (mtp && duplicateOf === null);
}
