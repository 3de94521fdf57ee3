/** What a model's routed experts take of a GPU. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { ExpertReader } from "@shoal/model";

export interface ExpertNeeds {
  /** That have experts. */
  readonly layers: readonly number[];
  /** Of all experts. */
  readonly bytes: number;
  /** Of those that one token takes, of each layer: with fewer nothing runs. */
  readonly leastBytes: number;
}

export function expertNeeds({ config, tensors }: Pick<CheckpointSource, "config" | "tensors">, mtp = false): ExpertNeeds {
  const { nDenseLayers, nLayers, nMtpLayers, nRoutedExperts, nActivatedExperts } = config;
  const end = nLayers + (mtp ? nMtpLayers : 0);
  const layers = Array.from({ length: Math.max(0, end - nDenseLayers) }, (_, place) => nDenseLayers + place);
  const reader = new ExpertReader({ config, tensors });
  const largest = Math.max(0, ...layers.map((layer) => reader.shape(layer).bytes));
  // A budget is shared evenly by the layers, so the one with the largest experts counts.
  return { layers, bytes: largest * layers.length * nRoutedExperts, leastBytes: largest * layers.length * nActivatedExperts };
}
