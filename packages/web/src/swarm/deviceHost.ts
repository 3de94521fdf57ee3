/** This browser's GPU as the host of a swarm's stage. */
import { type FrameChannel, SharedStage, memoryChannel, serveStage } from "@shoal/cluster";
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { DECODE_TOKENS, type LocalStage, loadLocalStage } from "@shoal/model";
import type { StageHost } from "@shoal/swarm";
import { WebError } from "../errors.ts";

export interface DeviceHost extends StageHost {
  readonly unload: () => Promise<void>;
}

/** @param onLost the device is gone, and with it the stage */
export function deviceHost(signal: AbortSignal, onLost: (error: Error) => void): DeviceHost {
  let stage: LocalStage | undefined;
  let shared: SharedStage | undefined;
  // While layers are chosen and fetched.
  let opening: Promise<GpuContext> | undefined = openBrowserGpu();
  // Whoever loads hears of it.
  opening.catch(() => undefined);
  const channels = new Set<FrameChannel>();
  const unload = async (): Promise<void> => {
    const old = stage;
    const unused = opening;
    stage = undefined;
    opening = undefined;
    for (const channel of channels) channel.close("this peer's layers are gone");
    await old?.destroy();
    await unused?.then(
      (gpu) => gpu.destroy(),
      () => undefined,
    );
  };
  return {
    async load(layers, sizes, { checkpoint }) {
      const taken = opening ?? openBrowserGpu();
      opening = undefined;
      const gpu = await taken;
      performance.mark("swarm: device");
      try {
        stage = await loadLocalStage(gpu, checkpoint, {
          ...sizes,
          kvFormat: "f16",
          // On a processor the kernels for many rows are no faster for each, and take long to compile.
          ...(gpu.adapter.isSoftware && { maxTokens: DECODE_TOKENS }),
          maxOutputs: sizes.maxSequences,
          layers,
          signal,
        });
      } catch (error) {
        gpu.destroy();
        throw error;
      }
      performance.mark("swarm: loaded");
      const loaded = stage;
      shared = new SharedStage(stage);
      void gpu.lost.then((error) => {
        if (stage === loaded) onLost(error);
      });
    },
    async connect() {
      if (!stage || !shared) throw new WebError("RequestError", "Cannot use this device's layers: none are loaded");
      const [near, far] = memoryChannel();
      channels.add(far);
      void serveStage(far, shared, { ownsStage: false }).finally(() => channels.delete(far));
      return near;
    },
    unload,
  };
}
