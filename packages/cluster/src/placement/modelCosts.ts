/** What a model weighs, layer by layer, from its config alone. Bytes as stored; multiply-adds of a product count two. */
import { type KvFormat, type ModelConfig, kvBytesPerToken, tensorSchema } from "@shoal/checkpoint";

export interface LayerCosts {
  /** Everything but routed experts. */
  readonly bytes: number;
  /** Of one routed expert; 0 in dense layers. */
  readonly expertBytes: number;
}

export interface ModelCosts {
  readonly layers: readonly LayerCosts[];
  readonly embeddingBytes: number;
  /** Final norm and head; 0 for a head that is the embedding, on a stage that has both. */
  readonly headBytes: number;
  /** On the stage that has the head: the MTP module, its experts and its copy of the embedding; 0 without one. */
  readonly mtpBytes: number;
  readonly nRoutedExperts: number;
  readonly nActivatedExperts: number;
  readonly hiddenSize: number;
  /** Of a token in a layer. */
  readonly kvBytes: number;
  /** Of a step's token on a stage: the buffers that it computes in, about. */
  readonly activationBytes: number;
  /** Weights are read as so many bytes a parameter: what turns bytes into arithmetic. */
  readonly bytesPerParameter: number;
}

export function modelCosts(config: ModelConfig, kvFormat: KvFormat = "f16", { mtp: withMtp = false } = {}): ModelCosts {
  const plain = 2;
  const layers = Array.from({ length: config.nLayers }, () => ({ bytes: 0, expertBytes: 0 }));
  let embeddingBytes = 0;
  let headBytes = 0;
  let mtpBytes = 0;
  for (const { shape, role, kind, layer, expert, scaleShape, mtp, duplicateOf } of tensorSchema(config)) {
    const elements = shape.reduce((product, size) => product * size, 1);
    const bytes = elements * (kind === "fp8Block" && scaleShape ? 1 : plain) + (scaleShape ? scaleShape[0] * scaleShape[1] * 4 : 0);
    if (mtp) {
      mtpBytes += duplicateOf === null ? bytes : 0;
      continue;
    }
    const costs = layer === null ? undefined : layers[layer];
    if (costs) {
      // All experts weigh the same: the first counts.
      if (role === "routedExpert") costs.expertBytes += expert === 0 ? bytes : 0;
      else costs.bytes += bytes;
    } else if (role === "embedding") embeddingBytes += bytes;
    else headBytes += bytes;
  }
  const { hiddenSize, nHeads, kvLoraRank, qkRopeHeadDim, nActivatedExperts, moeIntermediateSize } = config;
  return {
    layers,
    embeddingBytes,
    headBytes,
    mtpBytes: withMtp && mtpBytes > 0 ? mtpBytes + embeddingBytes : 0,
    nRoutedExperts: config.nRoutedExperts,
    nActivatedExperts,
    hiddenSize,
    kvBytes: kvBytesPerToken(config, kvFormat) / config.nLayers,
    activationBytes:
      4 * (6 * hiddenSize + 3 * nHeads * (kvLoraRank + qkRopeHeadDim) + (nActivatedExperts + 1) * (hiddenSize + moeIntermediateSize)),
    bytesPerParameter: config.quantization ? 1 : plain,
  };
}
