/**
 * One stage over several devices, each in a process of its own: layers in a row; or the layers on the first device and each layer's experts over all; or both, layers in a row and each
 * layer's experts over all. A device that is lost is started again, with what it had.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import { type ExpertShard, type LoadProgress, type LocalStageOptions, type Stage, isLoss } from "@shoal/model";
import { ClusterError } from "../errors.ts";
import { ShardedExperts } from "../experts/shardedExperts.ts";
import { PipelineStage } from "../pipeline/pipelineStage.ts";
import { type DeviceOptions, type RemoteDevice, type StageRequest, openProcessDevice } from "./devices.ts";

export interface FleetMember extends DeviceOptions {
  readonly name: string;
  /** Of the layers, or of the experts, in proportion to the others'. */
  readonly share: number;
}

export type Split = "layers" | "experts" | "both";

export interface FleetRequest {
  readonly members: readonly FleetMember[];
  readonly split: Split;
  readonly location: string;
  readonly config: ModelConfig;
  /** Whether `config` stands in for the checkpoint's own. */
  readonly overrides: boolean;
  readonly options: StageRequest["options"];
  readonly onProgress?: (progress: LoadProgress) => void;
}

const MOST_ATTEMPTS = 3;

export class DeviceFleet {
  readonly #request: FleetRequest;
  readonly #devices: (RemoteDevice | undefined)[] = [];
  readonly #opening: (Promise<RemoteDevice> | undefined)[] = [];
  /** Where each stage and each shard was loaded: by the time that its loss is noticed its device may have been replaced for the other's sake. */
  readonly #stageDevices: (RemoteDevice | undefined)[] = [];
  readonly #shardDevices: (RemoteDevice | undefined)[] = [];
  /** Of each load, by its place in the order of loads. */
  readonly #loads: LoadProgress[] = [];
  #stage: Stage | undefined;
  #experts: ShardedExperts | undefined;
  #closed = false;

  private constructor(request: FleetRequest) {
    this.#request = request;
  }

  /** @throws ClusterError named bad-plan for more devices than layers; what opening and loading throw. Nothing is left running then */
  static async open(request: FleetRequest): Promise<DeviceFleet> {
    const fleet = new DeviceFleet(request);
    try {
      await fleet.#start();
      return fleet;
    } catch (error) {
      fleet.close();
      throw error;
    }
  }

  get stage(): Stage {
    if (!this.#stage) throw new ClusterError("refused", "Cannot use the devices: they are closed");
    return this.#stage;
  }

  /** Adapters as they call themselves. */
  get adapters(): readonly string[] {
    return this.#devices.map((device) => device?.report.adapter.description ?? "");
  }

  /** After a loss: another stage, on the devices that live and new ones for the others. */
  async reopen(): Promise<Stage> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#restart();
        return this.stage;
      } catch (error) {
        // Another one was lost meanwhile.
        if (!isLoss(error) || attempt === MOST_ATTEMPTS) throw error;
      }
    }
  }

  async #restart(): Promise<void> {
    const left = this.#stage instanceof PipelineStage ? await this.#stage.abandon() : [undefined];
    for (const [index, stage] of left.entries()) if (!stage) this.#discard(index, this.#stageDevices[index]);
    await this.#start(left);
  }

  /** Ends one device, whatever it is doing: as a crash would. */
  kill(index: number): void {
    this.#devices[index]?.close();
  }

  close(): void {
    this.#closed = true;
    for (const device of this.#devices) device?.close();
    this.#devices.length = 0;
    this.#stage = undefined;
  }

  async #start(left: readonly (Stage | undefined)[] = []): Promise<void> {
    const { members, split, config } = this.#request;
    await Promise.all(members.map((_, index) => this.#device(index)));
    // Shards replace each other by themselves: they outlive the stages.
    if (split !== "layers") this.#experts ??= await this.#openExperts();
    if (split === "experts") {
      this.#stage = await this.#loadStage(0, {});
      return;
    }
    const counts = shares(
      config.nLayers,
      members.map(({ share }) => share),
    );
    let begin = 0;
    // One after another, so that progress is one.
    const stages: Stage[] = [];
    for (const [index, count] of counts.entries()) {
      const layers = { begin, end: (begin += count) };
      stages.push(left[index] ?? (await this.#loadStage(index, { layers })));
    }
    this.#stage = await PipelineStage.open(stages);
  }

  async #openExperts(): Promise<ShardedExperts> {
    const { members } = this.#request;
    const shards = [];
    for (const [index, { name }] of members.entries()) shards.push({ name, shard: await this.#loadShard(index) });
    return ShardedExperts.open(shards, {
      replace: async ({ name }) => {
        const index = members.findIndex((member) => member.name === name);
        this.#discard(index, this.#shardDevices[index]);
        return this.#loadShard(index);
      },
    });
  }

  /** The one that is there, or another in its place. */
  #device(index: number): Promise<RemoteDevice> {
    const device = this.#devices[index];
    if (device) return Promise.resolve(device);
    const opening = this.#opening[index] ?? this.#open(index);
    this.#opening[index] = opening;
    return opening;
  }

  async #open(index: number): Promise<RemoteDevice> {
    const member = this.#request.members[index];
    if (!member) throw new RangeError(`There is no device ${index}`);
    try {
      const device = await openProcessDevice(member);
      if (this.#closed) {
        device.close();
        throw new ClusterError("refused", "Cannot use the devices: they are closed");
      }
      this.#devices[index] = device;
      return device;
    } finally {
      this.#opening[index] = undefined;
    }
  }

  #discard(index: number, device: RemoteDevice | undefined): void {
    device?.close();
    if (this.#devices[index] === device) this.#devices[index] = undefined;
  }

  async #loadStage(index: number, more: Pick<LocalStageOptions, "layers">): Promise<Stage> {
    const { location, config, overrides, options, onProgress } = this.#request;
    const experts = this.#experts;
    const device = await this.#device(index);
    this.#stageDevices[index] = device;
    return device.loadStage({
      location,
      options: { ...options, ...more },
      ...(overrides && { config }),
      ...(experts && { experts }),
      ...(onProgress && { onProgress: this.#sum(onProgress) }),
    });
  }

  async #loadShard(index: number): Promise<ExpertShard> {
    const { members, location, config, overrides, options, onProgress } = this.#request;
    const device = await this.#device(index);
    this.#shardDevices[index] = device;
    const counts = shares(
      config.nRoutedExperts,
      members.map(({ share }) => share),
    );
    const first = counts.slice(0, index).reduce((sum, count) => sum + count, 0);
    const own = Array.from({ length: counts[index] ?? 0 }, (_, place) => first + place);
    const last = config.nLayers + (options.mtp === true ? config.nMtpLayers : 0);
    const experts = Array.from({ length: last - config.nDenseLayers }, (_, place) => ({
      layer: config.nDenseLayers + place,
      experts: own,
    }));
    return device.loadShard({
      location,
      options: {
        experts,
        ...(options.mode && { mode: options.mode }),
        ...(options.maxTokens !== undefined && { maxTokens: options.maxTokens }),
      },
      ...(overrides && { config }),
      ...(onProgress && { onProgress: this.#sum(onProgress) }),
    });
  }

  /** One report of what all have loaded. */
  #sum(onProgress: (progress: LoadProgress) => void): (progress: LoadProgress) => void {
    const loads = this.#loads;
    const place = loads.push({ loadedBytes: 0, totalBytes: 0 }) - 1;
    return (progress) => {
      loads[place] = progress;
      onProgress({
        loadedBytes: loads.reduce((sum, { loadedBytes }) => sum + loadedBytes, 0),
        totalBytes: loads.reduce((sum, { totalBytes }) => sum + totalBytes, 0),
      });
    };
  }
}

/** Whole numbers in proportion, one at least each. @throws ClusterError named bad-plan */
export function shares(total: number, parts: readonly number[]): readonly number[] {
  if (parts.length > total)
    throw new ClusterError("bad-plan", `Cannot divide ${total} among ${parts.length} devices, expected one at least for each`);
  const sum = parts.reduce((all, part) => all + part, 0);
  const counts = parts.map((part) => Math.max(1, Math.floor((total * part) / sum)));
  for (let left = total - counts.reduce((all, count) => all + count, 0); left !== 0; left += left > 0 ? -1 : 1) {
    // Whoever is furthest from its share gives or takes.
    const missing = counts.map((count, index) =>
      left < 0 && count === 1 ? Number.POSITIVE_INFINITY : (total * (parts[index] ?? 0)) / sum - count,
    );
    const index = missing.indexOf(left > 0 ? Math.max(...missing) : Math.min(...missing));
    counts[index] = (counts[index] ?? 0) + Math.sign(left);
  }
  return counts;
}
