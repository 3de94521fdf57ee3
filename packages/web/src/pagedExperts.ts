/**
 * A model whose experts do not all fit the GPU: it has the hottest, and the others are read from where the checkpoint lies when a token needs them, a browser's storage as a rule. Slower, the more so
 * the fewer fit, and the answers are the same.
 */
import { AdapterLimitError } from "@shoal/gpu";
import { loadLocalExpertShard, loadLocalStage, stagePlan } from "@shoal/model";
import { expertNeeds } from "./expertNeeds.ts";
import type { SpreadRequest, SpreadStage } from "./spreadTypes.ts";

/** @param expertBytes of the GPU, for experts; by default as many as fit, which is found by trying, since no browser tells how much memory a GPU has @throws what loading throws */
export async function loadPaged(request: SpreadRequest, expertBytes?: number): Promise<SpreadStage> {
  if (expertBytes !== undefined) return attempt(request, expertBytes);
  const { bytes, leastBytes } = expertNeeds(request.checkpoint, request.options.mtp);
  for (let share = bytes / 2; ; share /= 2) {
    const last = share <= leastBytes;
    try {
      return await attempt(request, last ? leastBytes : share);
    } catch (error) {
      if (last || !(error instanceof Error) || error.name !== "GpuOutOfMemoryError") throw error;
    }
  }
}

async function attempt({ openGpu, checkpoint, options, onProgress }: SpreadRequest, wanted: number): Promise<SpreadStage> {
  const { config } = checkpoint;
  const { layers, bytes, leastBytes } = expertNeeds(checkpoint, options.mtp);
  if (layers.length === 0) throw new AdapterLimitError("page experts", "expert layers", 1, 0, "this model has none");
  const expertBytes = Math.min(bytes, Math.max(leastBytes, wanted));
  const gpu = await openGpu();
  const parts = [0, 1].map(() => ({ loadedBytes: 0, totalBytes: 0 }));
  const report = (part: number) => (progress: { readonly loadedBytes: number; readonly totalBytes: number }) => {
    parts[part] = progress;
    const sum = (of: "loadedBytes" | "totalBytes"): number => parts.reduce((total, each) => total + each[of], 0);
    onProgress?.({ loadedBytes: sum("loadedBytes"), totalBytes: sum("totalBytes") });
  };
  try {
    const all = Array.from({ length: config.nRoutedExperts }, (_, expert) => expert);
    const { signal, mode } = options;
    const experts = await loadLocalExpertShard(gpu, checkpoint, {
      experts: layers.map((layer) => ({ layer, experts: all })),
      budgetBytes: expertBytes,
      maxTokens: stagePlan(config, options).maxTokens,
      onProgress: report(0),
      ...(mode && { mode }),
      ...(signal && { signal }),
    });
    const stage = await loadLocalStage(gpu, checkpoint, { ...options, experts, onProgress: report(1) });
    return { gpu, stage, second: undefined, whole: stage, paged: { experts, expertBytes, allBytes: bytes } };
  } catch (error) {
    // With what was loaded onto it.
    gpu.destroy();
    throw error;
  }
}
