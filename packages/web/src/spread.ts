/** A model on one GPU, or its first layers on one and its last on a second, or with only some of its experts on the GPU. */
import { loadLocalStage } from "@shoal/model";
import { loadPaged } from "./pagedExperts.ts";
import type { SecondDevice } from "./secondDevice.ts";
import type { SpreadRequest, SpreadStage } from "./spreadTypes.ts";

/** @throws what loading throws: GpuOutOfMemoryError where neither a second GPU nor reading experts when they are needed could help */
export async function loadSpread(request: SpreadRequest): Promise<SpreadStage> {
  const { checkpoint, options, spread, onProgress, openGpu, expertBytes } = request;
  if (expertBytes !== undefined) return loadPaged(request, expertBytes);
  if (spread === "always") {
    const second = await request.openSecond?.();
    if (second) return both(request, second);
  }
  const gpu = await openGpu();
  try {
    const stage = await loadLocalStage(gpu, checkpoint, { ...options, ...(onProgress && { onProgress }) });
    return { gpu, stage, second: undefined, whole: stage };
  } catch (error) {
    // How much memory a GPU has no browser tells: trying is the only way.
    if (spread !== "if-needed" || !(error instanceof Error) || error.name !== "GpuOutOfMemoryError") throw error;
    const second = await request.openSecond?.();
    const { nLayers, nDenseLayers } = checkpoint.config;
    if (!second && nLayers === nDenseLayers) throw error;
    // With what was loaded onto it.
    gpu.destroy();
    return second ? both(request, second) : loadPaged(request);
  }
}

/** What only pages with a second GPU need, they fetch. */
async function both(request: SpreadRequest, second: SecondDevice): Promise<SpreadStage> {
  const { loadBoth } = await import("./loadBoth.ts");
  return loadBoth(request, second);
}
