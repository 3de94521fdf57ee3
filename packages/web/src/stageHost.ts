/** The side of a worker that owns the second GPU: it has some layers of the model, for the worker that has the others. */
import { portChannel, serveStage } from "@shoal/cluster";
import { type GpuContext, measureDevice } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { type LayerRange, type LoadProgress, type LocalStageOptions, loadLocalStage } from "@shoal/model";
import { openModel } from "./kept.ts";
import type { ModelSource } from "./protocol.ts";
import type { Callback } from "./throttled.ts";

export interface SecondStageRequest {
  readonly source: ModelSource;
  readonly stream: boolean;
  readonly layers: LayerRange;
  readonly options: Pick<LocalStageOptions, "kvFormat" | "maxSequences" | "maxOutputs" | "mtp">;
}

export class StageHost {
  #gpu: GpuContext | undefined;

  /** @returns bytes a second that it copies, as a measure of how many layers it should have */
  async open(powerPreference: GPUPowerPreference): Promise<number> {
    this.#gpu = await openBrowserGpu({ powerPreference });
    return (await measureDevice(this.#gpu)).copyBytesPerSecond;
  }

  /** Loads a stage, and serves it over the port until that closes. */
  async load(
    { source, stream, layers, options }: SecondStageRequest,
    port: MessagePort,
    onProgress: Callback<[LoadProgress]>,
  ): Promise<void> {
    if (!this.#gpu) throw new RangeError("Cannot load a stage: no GPU is open");
    const checkpoint = await openModel(source, stream);
    try {
      // A report that is lost is no loss.
      const report = (progress: LoadProgress): void => void (onProgress(progress as never) as Promise<unknown>).catch(() => {});
      const stage = await loadLocalStage(this.#gpu, checkpoint, { ...options, layers, onProgress: report });
      void serveStage(portChannel(port), stage);
    } finally {
      await checkpoint.close();
    }
  }
}
