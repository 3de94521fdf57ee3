/** Devices in workers and in processes of their own, and what can be loaded onto them. */
import type { ModelConfig } from "@shoal/checkpoint";
import type { DeviceTimes } from "@shoal/gpu";
import type { ExpertShard, LoadProgress, LocalExpertShardOptions, LocalStageOptions, PagingStats } from "@shoal/model";
import { streamChannel } from "../channels/stream.ts";
import { workerChannel } from "../channels/port.ts";
import { ClusterError } from "../errors.ts";
import { RemoteStage } from "../stage/remoteStage.ts";
import { RemoteExpertShard, ShardServer } from "../experts/remoteShard.ts";
import { Caller, type Traffic, answerCalls, parsed } from "../wire/calls.ts";
import { type FrameChannel, bothWays } from "../wire/channel.ts";
import type { ActivationFormat } from "../wire/tensor.ts";
import { DEVICE } from "./deviceServer.ts";
import * as schemas from "./schemas.ts";

export interface DeviceOptions {
  readonly webgpu?: "auto" | "wgpu" | "dawn";
  /** Part of the adapter's name: Dawn only. */
  readonly adapterName?: string;
  /** As `OpenOptions` of @shoal/gpu has it. */
  readonly subgroupMatrix?: boolean | "precise";
  /** For errors and tables. */
  readonly name?: string;
  /** Of a process: for a driver that shows one GPU, the variable that says which. */
  readonly env?: Readonly<Record<string, string>>;
  /** Of a process: a program that starts it, with its arguments, such as `taskset -c 0` or `numactl -N 0`, which keep it near its device. */
  readonly launcher?: readonly string[];
}

export interface StageRequest {
  readonly location: string;
  readonly config?: ModelConfig | undefined;
  readonly options: Omit<LocalStageOptions, "onProgress" | "signal" | "experts" | "mtpRecycling">;
  /** Who computes the routed experts, if the device does not: it is asked through here. */
  readonly experts?: ExpertShard;
  /** A shard of the same device, which has some of them, or all. */
  readonly ownExperts?: RemoteExpertShard;
  /** How hidden states travel, and rows to experts. */
  readonly activations?: ActivationFormat;
  readonly onProgress?: (progress: LoadProgress) => void;
}

export interface ShardRequest {
  readonly location: string;
  readonly config?: ModelConfig | undefined;
  readonly options: Omit<LocalExpertShardOptions, "onProgress" | "signal" | "ownsGpu">;
  readonly activations?: ActivationFormat;
  readonly onProgress?: (progress: LoadProgress) => void;
}

const PROGRESS_MS = 200;
/** Of which the median counts. */
const ROUND_TRIPS = 21;
/** Between two of them: a message of a step finds the other side asleep, too. */
const REST_MS = 5;

type Served = Map<number, ShardServer>;

/** A device somewhere else. */
export class RemoteDevice {
  readonly report: schemas.DeviceReport;
  readonly name: string;
  readonly #caller: Caller;
  readonly #kill: () => void;

  /** What the device may ask of this side. */
  readonly #served: Served;

  private constructor(caller: Caller, served: Served, report: schemas.DeviceReport, kill: () => void) {
    this.#caller = caller;
    this.#served = served;
    this.report = report;
    this.name = caller.peer;
    this.#kill = kill;
  }

  /** @throws GpuErrors by name, PeerLostError; whatever was started is ended then */
  static async open(
    channel: FrameChannel,
    { webgpu = "auto", adapterName, subgroupMatrix = true, name = "a device" }: DeviceOptions,
    kill: () => void,
  ): Promise<RemoteDevice> {
    const [asking, answering] = bothWays(channel);
    const caller = new Caller(asking, { peer: name });
    const served: Served = new Map();
    answerCalls(answering, (target, method, body) => {
      const object = served.get(target);
      if (!object) throw new ClusterError("refused", `Cannot call '${method}' of object ${target}: there is none of that number`);
      return object.dispatch(target, method, body);
    });
    try {
      const request = { webgpu, subgroupMatrix, ...(adapterName !== undefined && { adapterName }) };
      const report = parsed(schemas.deviceReport, "open result", await caller.call(DEVICE, "open", request));
      return new RemoteDevice(caller, served, report, kill);
    } catch (error) {
      kill();
      throw error;
    }
  }

  /** Resolves when it is gone. */
  get lost(): Promise<Error> {
    return this.#caller.lost;
  }

  async loadStage({ location, config, options, experts, ownExperts, activations = "f32", onProgress }: StageRequest): Promise<RemoteStage> {
    const number = this.#served.size + 1;
    if (experts) this.#served.set(number, new ShardServer(experts));
    const elsewhere = { ...(experts && { experts: number }), ...(ownExperts && { ownExperts: ownExperts.target }) };
    const request = { location, ...(config && { config }), options, ...elsewhere, activations };
    const target = await this.#load("loadStage", request, onProgress);
    return new RemoteStage({ caller: this.#caller, target }, { activations });
  }

  async loadShard({ location, config, options, activations = "f32", onProgress }: ShardRequest): Promise<RemoteExpertShard> {
    const target = await this.#load("loadShard", { location, ...(config && { config }), options }, onProgress);
    return new RemoteExpertShard({ caller: this.#caller, target }, { activations });
  }

  /** How its shards' paging goes, in the order in which they were loaded. */
  async paging(): Promise<readonly PagingStats[]> {
    return parsed(schemas.pagingResult, "paging result", await this.#caller.call(DEVICE, "paging", null));
  }

  /** What a plan's costs are made of, on an idle device: its readback and bandwidth, and how long a message to it and its answer take. */
  async measure(): Promise<DeviceTimes & { readonly roundTripMs: number }> {
    const times = parsed(schemas.deviceTimes, "measure result", await this.#caller.call(DEVICE, "measure", null));
    const trips: number[] = [];
    for (let i = 0; i < ROUND_TRIPS; i++) {
      await new Promise((resolve) => setTimeout(resolve, REST_MS));
      const begin = performance.now();
      await this.#caller.call(DEVICE, "progress", null);
      trips.push(performance.now() - begin);
    }
    return { ...times, roundTripMs: trips.sort((a, b) => a - b)[ROUND_TRIPS >> 1] ?? 0 };
  }

  get traffic(): Readonly<Traffic> {
    return this.#caller.traffic;
  }

  /** Ends the worker or the process, whatever it is doing. */
  close(): void {
    this.#kill();
  }

  async #load(method: string, request: unknown, onProgress: StageRequest["onProgress"]): Promise<number> {
    const loading = this.#caller.call(DEVICE, method, request);
    if (onProgress) this.#reportProgress(loading, onProgress);
    const target = parsed(schemas.target, `${method} result`, await loading);
    // The whole, of a load that was over before it was asked.
    if (onProgress) onProgress(parsed(schemas.progress, "progress", await this.#caller.call(DEVICE, "progress", null)));
    return target;
  }

  #reportProgress(loading: Promise<unknown>, onProgress: (progress: LoadProgress) => void): void {
    const timer = setInterval(() => {
      this.#caller.call(DEVICE, "progress", null).then(
        (body) => onProgress(parsed(schemas.progress, "progress", body)),
        // A report that is lost is no loss.
        () => undefined,
      );
    }, PROGRESS_MS);
    const stop = (): void => clearInterval(timer);
    loading.then(stop, stop);
  }
}

/** In a worker: for adapters that one process can have several of. */
export function openWorkerDevice(options: DeviceOptions = {}): Promise<RemoteDevice> {
  const worker = new Worker(new URL("./deviceWorker.ts", import.meta.url), { type: "module", name: options.name ?? "device" });
  const channel = workerChannel(worker);
  return RemoteDevice.open(channel, options, () => channel.close("it was ended"));
}

/** In a process of its own: where a driver shows one GPU a process, or crashes should stay one device's matter. */
export async function openProcessDevice(options: DeviceOptions = {}): Promise<RemoteDevice> {
  const script = new URL("./deviceProcess.ts", import.meta.url).pathname;
  let process: Deno.ChildProcess;
  try {
    const deno = [Deno.execPath(), "run", "--quiet", "-A", script] as const;
    const [program = deno[0], ...args] = options.launcher ? [...options.launcher, ...deno] : deno;
    process = new Deno.Command(program, {
      args,
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
      ...(options.env && { env: { ...options.env } }),
    }).spawn();
  } catch (error) {
    throw new ClusterError("cannot-start", `Cannot start a process for ${options.name ?? "a device"}: ${String(error)}`, { cause: error });
  }
  const kill = (): void => {
    try {
      process.kill("SIGKILL");
    } catch {
      // It has ended.
    }
  };
  const channel = streamChannel(process.stdout, process.stdin, { end: kill });
  void process.status.then(({ code, signal }) => channel.close(`its process ended with ${signal ?? code}`));
  return RemoteDevice.open(channel, options, () => {
    channel.close("it was ended");
    kill();
  });
}
