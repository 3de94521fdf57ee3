/** Which chunks hold the tensors of some layers. */
import { type CheckpointSource, tensorSchema } from "@shoal/checkpoint";
import type { LayerRange } from "../plan/range.ts";
import type { Manifest } from "./manifest.ts";

export interface ChunkName {
  readonly file: string;
  readonly index: number;
}

export function neededChunks(
  checkpoint: Pick<CheckpointSource, "config" | "tensors">,
  manifest: Manifest,
  range: LayerRange,
): readonly ChunkName[] {
  const { config, tensors } = checkpoint;
  const needed = new Map<string, ChunkName>();
  for (const spec of tensorSchema(config)) {
    if (!belongs(spec, config, range)) continue;
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
