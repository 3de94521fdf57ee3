/** This browser's GPU as the host of a swarm's stage. */
import { type FrameChannel, PartedExperts, SharedStage, memoryChannel, serveStage } from "@shoal/cluster";
import { type GpuContext, measureDevice } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import {
  DECODE_TOKENS,
  type ExpertShard,
  type LocalExpertShard,
  type LocalStage,
  loadLocalExpertShard,
  loadLocalStage,
} from "@shoal/model";
import type { ElsewhereExperts, ExpertRange, StageHost, SwarmMember } from "@shoal/swarm";
import { WebError } from "../errors.ts";

export interface DeviceHost extends StageHost {
  readonly unload: () => Promise<void>;
}

/** @param onLost the device is gone, and with it the stage, or the experts */
export function deviceHost(
  signal: AbortSignal,
  onLost: (error: Error) => void,
  openGpu: () => Promise<GpuContext> = openBrowserGpu,
): DeviceHost {
  let stage: LocalStage | undefined;
  let shared: SharedStage | undefined;
  /** Of another's stage; there is none here then. */
  let shard: LocalExpertShard | undefined;
  // While layers are chosen and fetched.
  let opening: Promise<GpuContext> | undefined = openGpu();
  // Whoever loads hears of it.
  opening.catch(() => undefined);
  const channels = new Set<FrameChannel>();
  const unload = async (): Promise<void> => {
    const old = stage ?? shard;
    const unused = opening;
    stage = undefined;
    shard = undefined;
    opening = undefined;
    for (const channel of channels) channel.close("this peer's layers are gone");
    await old?.destroy();
    await unused?.then(
      (gpu) => gpu.destroy(),
      () => undefined,
    );
  };
  const take = async (): Promise<GpuContext> => {
    const taken = opening ?? openGpu();
    opening = undefined;
    return taken;
  };
  return {
    async load(layers, sizes, { checkpoint }, elsewhere) {
      const gpu = await take();
      performance.mark("swarm: device");
      try {
        // On a processor the kernels for many rows are no faster for each, and take long to compile.
        const rows = gpu.adapter.isSoftware ? { maxTokens: DECODE_TOKENS } : {};
        stage = await loadLocalStage(gpu, checkpoint, {
          ...sizes,
          kvFormat: "f16",
          ...rows,
          ...(elsewhere && { experts: await partlyElsewhere(gpu, checkpoint, layers, elsewhere, { ...rows, signal }) }),
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
    async loadExperts({ layers, begin, end, maxTokens }, { checkpoint }) {
      const gpu = await take();
      try {
        shard = await loadExpertsOf(gpu, checkpoint, layers, { begin, end }, { maxTokens, signal, ownsGpu: true });
      } catch (error) {
        gpu.destroy();
        throw error;
      }
      const loaded = shard;
      void gpu.lost.then((error) => {
        if (shard === loaded) onLost(error);
      });
      return loaded;
    },
    async measure() {
      opening ??= openGpu();
      const { copyBytesPerSecond, readbackMs } = await measureDevice(await opening);
      return { bytesPerSecond: copyBytesPerSecond, readbackMs };
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

type ShardOptions = Pick<NonNullable<Parameters<typeof loadLocalExpertShard>[2]>, "maxTokens" | "signal" | "ownsGpu">;

async function partlyElsewhere(
  gpu: GpuContext,
  checkpoint: SwarmMember["checkpoint"],
  layers: ExpertRange,
  { own, shard }: ElsewhereExperts,
  options: ShardOptions,
): Promise<ExpertShard> {
  if (own === 0) return shard;
  const here = { begin: 0, end: own };
  return new PartedExperts([
    { ...here, shard: await loadExpertsOf(gpu, checkpoint, layers, here, options) },
    { begin: own, end: checkpoint.config.nRoutedExperts, shard },
  ]);
}

/** Some experts of each MoE layer of these. */
function loadExpertsOf(
  gpu: GpuContext,
  checkpoint: SwarmMember["checkpoint"],
  layers: ExpertRange,
  { begin, end }: ExpertRange,
  options: ShardOptions,
): Promise<LocalExpertShard> {
  const first = Math.max(layers.begin, checkpoint.config.nDenseLayers);
  const experts = Array.from({ length: end - begin }, (_, place) => begin + place);
  return loadLocalExpertShard(gpu, checkpoint, {
    experts: Array.from({ length: layers.end - first }, (_, place) => ({ layer: first + place, experts })),
    ...options,
  });
}
