/** A model's first layers on one GPU, and its last on a second, as one stage. */
import { PipelineStage, shares } from "@shoal/cluster";
import { measureDevice } from "@shoal/gpu";
import { type LoadProgress, loadLocalStage } from "@shoal/model";
import type { SecondDevice } from "./secondDevice.ts";
import type { SpreadRequest, SpreadStage } from "./spreadTypes.ts";

/** Layers in proportion to what each copies in a second. */
export async function loadBoth({ openGpu, checkpoint, options, onProgress }: SpreadRequest, second: SecondDevice): Promise<SpreadStage> {
  try {
    const gpu = await openGpu();
    const { copyBytesPerSecond } = await measureDevice(gpu);
    const { nLayers } = checkpoint.config;
    const [begin = nLayers] = shares(nLayers, [copyBytesPerSecond, second.bytesPerSecond]);
    const both = [0, 1].map((): LoadProgress => ({ loadedBytes: 0, totalBytes: 0 }));
    const report =
      (which: number) =>
      (progress: LoadProgress): void => {
        both[which] = progress;
        const sum = (of: (each: LoadProgress) => number): number => both.reduce((total, each) => total + of(each), 0);
        onProgress?.({ loadedBytes: sum(({ loadedBytes }) => loadedBytes), totalBytes: sum(({ totalBytes }) => totalBytes) });
      };
    const { signal: _, ...shared } = options;
    const [stage, last] = await Promise.all([
      loadLocalStage(gpu, checkpoint, { ...options, layers: { begin: 0, end: begin }, onProgress: report(0) }),
      second.load({ layers: { begin, end: nLayers }, options: shared }, report(1)),
    ]);
    return { gpu, stage, second, whole: await PipelineStage.open([stage, last]) };
  } catch (error) {
    second.close();
    throw error;
  }
}
