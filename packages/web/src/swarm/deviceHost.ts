/** This browser's GPU as the host of a swarm's stage. */
import { type FrameChannel, SharedStage, memoryChannel, serveStage } from "@shoal/cluster";
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
  const channels = new Set<FrameChannel>();
  const unload = async (): Promise<void> => {
    const old = stage;
    stage = undefined;
    for (const channel of channels) channel.close("this peer's layers are gone");
    await old?.destroy();
  };
  return {
    async load(layers, sizes, { checkpoint }) {
      const gpu = await openBrowserGpu();
      try {
        stage = await loadLocalStage(gpu, checkpoint, {
          ...sizes,
          kvFormat: "f16",
          // On a processor the kernels for many rows take more than a minute to compile, longer than most prompts take in small pieces.
          ...(gpu.adapter.isSoftware && { maxTokens: DECODE_TOKENS }),
          maxOutputs: sizes.maxSequences,
          layers,
          signal,
        });
      } catch (error) {
        gpu.destroy();
        throw error;
      }
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
