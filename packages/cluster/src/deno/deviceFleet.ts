/**
 * One stage over several devices, each in a process of its own, as a layout says: layers in a row, each with its experts or with some of them on other devices. A device that is lost is
 * started again, with what it had.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import { type LoadProgress, type PagingStats, type Stage, isLoss } from "@shoal/model";
import { ClusterError } from "../errors.ts";
import type { RemoteExpertShard } from "../experts/remoteShard.ts";
import { ShardedExperts } from "../experts/shardedExperts.ts";
import { PipelineStage } from "../pipeline/pipelineStage.ts";
import type { ActivationFormat } from "../wire/tensor.ts";
import { type DeviceOptions, type RemoteDevice, type StageRequest, openProcessDevice } from "./devices.ts";
import type { ExpertLayout, StageLayout } from "./layout.ts";

export interface FleetMember extends DeviceOptions {
  readonly name: string;
}

export interface FleetRequest {
  readonly members: readonly FleetMember[];
  /** Who has what: `layoutOfSplit`, `layoutOfPlan`. */
  readonly layout: readonly StageLayout[];
  /** How hidden states travel between devices; f32 by default. */
  readonly activations?: ActivationFormat;
  /** Of each device for routed experts; those that do not fit are read when they are needed. */
  readonly expertBytes?: number;
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
  /** Where each stage was loaded, and each shard by its stage and member: by the time that its loss is noticed its device may have been replaced for another's sake. */
  readonly #stageDevices: (RemoteDevice | undefined)[] = [];
  readonly #shardDevices = new Map<string, RemoteDevice>();
  /** Of each load, by its place in the order of loads. */
  readonly #loads: LoadProgress[] = [];
  #stage: Stage | undefined;
  /** Of each stage, what other devices have of its experts. They replace each other by themselves, and outlive the stages. */
  readonly #helpers: (Promise<ShardedExperts> | undefined)[] = [];
  #closed = false;

  private constructor(request: FleetRequest) {
    this.#request = request;
  }

  /** @throws what opening and loading throw. Nothing is left running then */
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

  /** How paging goes on each device, summed over its shards. */
  async paging(): Promise<readonly { readonly device: string; readonly stats: readonly PagingStats[] }[]> {
    return Promise.all(
      this.#devices.flatMap((device) => (device ? [device.paging().then((stats) => ({ device: device.name, stats }))] : [])),
    );
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
    for (const [index, stage] of left.entries()) if (!stage) this.#discard(this.#member(index), this.#stageDevices[index]);
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
    const { members, layout } = this.#request;
    await Promise.all(members.map((_, index) => this.#device(index)));
    // One after another, so that progress is one.
    const stages: Stage[] = [];
    for (const index of layout.keys()) stages.push(left[index] ?? (await this.#loadStage(index)));
    const [only] = stages;
    this.#stage = stages.length === 1 && only ? only : await PipelineStage.open(stages);
  }

  #member(index: number): number {
    return this.#layout(index).member;
  }

  #layout(index: number): StageLayout {
    const stage = this.#request.layout[index];
    if (!stage) throw new RangeError(`There is no stage ${index}`);
    return stage;
  }

  /** The experts of a stage that other devices have. */
  async #openHelpers(index: number, shares: readonly ExpertLayout[]): Promise<ShardedExperts> {
    const shards = [];
    for (const share of shares) shards.push({ name: String(share.member), shard: await this.#loadShard(index, share) });
    return ShardedExperts.open(shards, {
      replace: async ({ name }) => {
        const share = shares.find(({ member }) => String(member) === name);
        if (!share) throw new RangeError(`Device ${name} has no experts of stage ${index}`);
        this.#discard(share.member, this.#shardDevices.get(`${index} ${share.member}`));
        return this.#loadShard(index, share);
      },
    });
  }

  /** Who has the experts of a stage apart from it; nobody where they are part of it, or there are none. */
  #shares(index: number): readonly ExpertLayout[] {
    const { config, expertBytes } = this.#request;
    const { member, experts } = this.#layout(index);
    if (this.#moeLayers(index).length === 0) return [];
    if (experts || expertBytes === undefined) return experts ?? [];
    return [{ member, experts: Array.from({ length: config.nRoutedExperts }, (_, expert) => expert) }];
  }

  #moeLayers(index: number): readonly number[] {
    const { config, options } = this.#request;
    const { begin, end } = this.#layout(index).layers;
    const first = Math.max(begin, config.nDenseLayers);
    const last = end + (end === config.nLayers && options.mtp === true ? config.nMtpLayers : 0);
    return Array.from({ length: Math.max(0, last - first) }, (_, place) => first + place);
  }

  /** A shard's part of its device's bytes: by how many experts it has of all that are there. */
  #budget(index: number, member: number): number | undefined {
    const { expertBytes, layout } = this.#request;
    if (expertBytes === undefined) return undefined;
    const counts = [...layout.keys()].map((stage) => {
      const own = this.#shares(stage).find((share) => share.member === member)?.experts.length ?? 0;
      return own * this.#moeLayers(stage).length;
    });
    return (expertBytes * (counts[index] ?? 0)) / counts.reduce((sum, count) => sum + count, 0);
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

  #discard(member: number, device: RemoteDevice | undefined): void {
    device?.close();
    if (this.#devices[member] === device) this.#devices[member] = undefined;
  }

  async #loadStage(index: number): Promise<Stage> {
    const { location, config, overrides, options, onProgress, activations } = this.#request;
    const { member, layers } = this.#layout(index);
    const shares = this.#shares(index);
    const device = await this.#device(member);
    this.#stageDevices[index] = device;
    const own = shares.find((share) => share.member === member);
    const ownExperts = own && (await this.#loadShard(index, own));
    const others = shares.filter((share) => share !== own);
    if (others.length > 0) {
      const opening = (this.#helpers[index] ??= this.#openHelpers(index, others));
      // What failed is tried again with the next stage.
      opening.catch(() => (this.#helpers[index] = undefined));
    }
    const helpers = await this.#helpers[index];
    return device.loadStage({
      location,
      options: { ...options, layers },
      ...(overrides && { config }),
      ...(activations && { activations }),
      ...(ownExperts && { ownExperts }),
      ...(helpers && { experts: helpers }),
      ...(onProgress && { onProgress: this.#sum(onProgress) }),
    });
  }

  async #loadShard(index: number, { member, experts: own }: ExpertLayout): Promise<RemoteExpertShard> {
    const { location, config, overrides, options, onProgress, activations } = this.#request;
    const device = await this.#device(member);
    this.#shardDevices.set(`${index} ${member}`, device);
    const experts = this.#moeLayers(index).map((layer) => ({ layer, experts: own }));
    const budgetBytes = this.#budget(index, member);
    return device.loadShard({
      location,
      options: {
        experts,
        ...(options.mode && { mode: options.mode }),
        ...(options.maxTokens !== undefined && { maxTokens: options.maxTokens }),
        ...(budgetBytes !== undefined && { budgetBytes }),
      },
      ...(overrides && { config }),
      ...(activations && { activations }),
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
