/** What a `LocalExpertShard` takes on a device, from the config and the headers alone, to within buffers' paddings. Pure. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { CHUNK, LOWEST_EXPERT_TILE, batchBytes, expertTiles, roundUp } from "@shoal/kernels";
import { DEFAULT_SHARD_TOKENS } from "./localExpertShard.ts";
import { ExpertReader } from "./expertImage.ts";

/** Bytes of one routed expert of each of these layers together; dense layers have none. */
export function expertBytes(checkpoint: Pick<CheckpointSource, "config" | "tensors">, layers: { begin: number; end: number }): number {
  const reader = new ExpertReader(checkpoint);
  let bytes = 0;
  for (let layer = Math.max(layers.begin, checkpoint.config.nDenseLayers); layer < layers.end; layer++) bytes += reader.shape(layer).bytes;
  return bytes;
}

/** Bytes besides its experts: what it computes in, and tables. */
export function shardActivationBytes({ config }: Pick<CheckpointSource, "config">, maxTokens = DEFAULT_SHARD_TOKENS): number {
  const { hiddenSize, moeIntermediateSize, nActivatedExperts: slots, nRoutedExperts: experts } = config;
  const matrix = (rows: number, columns: number): number => rows * roundUp(columns, CHUNK) * 4;
  const { tilesBytes, rowsBytes } = expertTiles({ maxTokens, slots, experts, tileRows: LOWEST_EXPERT_TILE });
  const pairs = maxTokens * slots;
  return (
    // Rows, rows quantized, sums.
    3 * matrix(maxTokens, hiddenSize) +
    matrix(pairs, moeIntermediateSize) +
    matrix(pairs, hiddenSize) +
    pairs * 8 +
    batchBytes(maxTokens) +
    tilesBytes +
    rowsBytes
  );
}
