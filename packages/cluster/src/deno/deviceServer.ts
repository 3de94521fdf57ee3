/**
 * A device behind a channel: opened once, then stages are loaded onto it, each addressed by a number of its own. The same in a worker and in a process. It trusts whoever
 * started it: locations are opened as they are given.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import { openLocation } from "@shoal/checkpoint/directory";
import { type GpuContext, measureDevice } from "@shoal/gpu";
import { openDenoGpu } from "@shoal/gpu/deno";
import {
  type ExpertShard,
  type LoadProgress,
  type LocalExpertShard,
  type PagingStats,
  loadLocalExpertShard,
  loadLocalStage,
} from "@shoal/model";
import { ClusterError } from "../errors.ts";
import { StageServer } from "../stage/stageServer.ts";
import { RemoteExpertShard, ShardServer } from "../experts/remoteShard.ts";
import { socketLines } from "./lines.ts";
import { ShardedExperts } from "../experts/shardedExperts.ts";
import { Caller, type Dispatch, answerCalls, parsed } from "../wire/calls.ts";
import { type FrameChannel, bothWays } from "../wire/channel.ts";
import type { ActivationFormat } from "../wire/tensor.ts";
import * as schemas from "./schemas.ts";

/** Target of the device's own calls. */
export const DEVICE = 0;

interface Served {
  readonly dispatch: Dispatch;
  readonly shard?: LocalExpertShard;
}

export class DeviceServer {
  #gpu: GpuContext | undefined;
  #caller: Caller | undefined;
  readonly #objects = new Map<number, Served>();
  #nextTarget = DEVICE + 1;
  #progress: LoadProgress = { loadedBytes: 0, totalBytes: 0 };

  /** Answers the calls of whoever started it, and asks it for experts that are elsewhere. */
  serve(channel: FrameChannel): void {
    const [asking, answering] = bothWays(channel);
    this.#caller = new Caller(asking, { peer: "whoever started this device", silenceMs: Number.POSITIVE_INFINITY });
    answerCalls(answering, this.dispatch);
  }

  readonly dispatch: Dispatch = (target, method, body) => {
    if (target !== DEVICE) {
      const object = this.#objects.get(target);
      if (!object) throw new ClusterError("refused", `Cannot call '${method}' of object ${target}: there is none of that number`);
      return object.dispatch(target, method, body);
    }
    switch (method) {
      case "open":
        return this.#open(parsed(schemas.openRequest, method, body));
      case "loadStage":
        return this.#loadStage(parsed(schemas.loadStageRequest, method, body));
      case "loadShard":
        return this.#loadShard(parsed(schemas.loadShardRequest, method, body));
      case "paging":
        return [...this.#objects.values()].flatMap(({ shard }): readonly PagingStats[] => (shard ? [shard.paging] : []));
      case "measure":
        return measureDevice(this.#device());
      case "progress":
        return this.#progress;
      default:
        throw new ClusterError("refused", `Cannot call '${method}': a device has no such method`);
    }
  };

  async #open({ webgpu, adapterName, subgroupMatrix = true }: schemas.OpenRequest): Promise<schemas.DeviceReport> {
    if (this.#gpu) throw new ClusterError("refused", "Cannot open the device: it is open");
    const gpu = await openDenoGpu({ webgpu, subgroupMatrix, ...(adapterName !== undefined && { adapterName }) });
    this.#gpu = gpu;
    return { adapter: gpu.adapter, engine: gpu.dialect.engine, maxBindingBytes: gpu.limits.maxStorageBufferBindingSize };
  }

  async #loadStage({ location, config, options, activations, ...others }: schemas.LoadStageRequest): Promise<number> {
    const gpu = this.#device();
    const experts = await this.#expertsOf(others, activations);
    const checkpoint = await openLocation(location, { ...(config && { config: config as unknown as ModelConfig }) });
    try {
      const stage = await loadLocalStage(gpu, checkpoint, {
        ...schemas.stageOptions(options),
        ...(experts && { experts }),
        onProgress: (progress) => (this.#progress = progress),
      });
      return this.#add(new StageServer(stage, { lines: socketLines }));
    } finally {
      await checkpoint.close();
    }
  }

  async #loadShard({ location, config, options }: schemas.LoadShardRequest): Promise<number> {
    const gpu = this.#device();
    // It stays open: experts that do not fit are read again and again.
    const checkpoint = await openLocation(location, { ...(config && { config: config as unknown as ModelConfig }) });
    try {
      const shard = await loadLocalExpertShard(gpu, checkpoint, {
        ...schemas.shardOptions(options),
        onProgress: (progress) => (this.#progress = progress),
      });
      return this.#add({ dispatch: new ShardServer(shard).dispatch, shard });
    } catch (error) {
      await checkpoint.close();
      throw error;
    }
  }

  /** This device's own share is computed here while the others' are asked for. */
  async #expertsOf(
    { experts, ownExperts }: Pick<schemas.LoadStageRequest, "experts" | "ownExperts">,
    activations: ActivationFormat,
  ): Promise<ExpertShard | undefined> {
    const caller = this.#caller;
    const elsewhere = experts !== undefined && caller ? new RemoteExpertShard({ caller, target: experts }, { activations }) : undefined;
    if (ownExperts === undefined) return elsewhere;
    const own = this.#objects.get(ownExperts)?.shard;
    if (!own) throw new ClusterError("refused", `Cannot load a stage: object ${ownExperts} is no shard of this device`);
    if (!elsewhere) return own;
    const members = [
      { name: "here", shard: own },
      { name: "elsewhere", shard: elsewhere },
    ];
    // Whoever is behind it has replaced what was lost, or never will.
    return ShardedExperts.open(members, { replace: async () => elsewhere });
  }

  #add(object: Served): number {
    const target = this.#nextTarget++;
    this.#objects.set(target, object);
    return target;
  }

  #device(): GpuContext {
    if (!this.#gpu) throw new ClusterError("refused", "Cannot use the device: it is not open");
    return this.#gpu;
  }
}
