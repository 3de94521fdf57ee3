/** What the main thread and the GPU worker say to one another. Everything here can be cloned. */
import type { ActivationFormat, LoadablePlan } from "@shoal/cluster";
import type { Split } from "@shoal/cluster/deno";
import type { ModelConfig } from "@shoal/checkpoint";
import type { EngineRequest, GenerationRequest } from "@shoal/engine";
import type { AdapterDescription, Dialect } from "@shoal/gpu";
import type { DenoEngine } from "@shoal/gpu/deno";
import type { KvFormat, LayerRange, MemoryRequirements, NumericMode, PagingStats, RoutingCapture } from "@shoal/model";
import type { TuneOptions } from "@shoal/model/tuning";
import type { TuningReport } from "../tuning/choices.ts";
import type { BenchSize, DemoConfigs, GpuBench, GpuRow, GpuRowName, ModelBenchOptions, RowTimeline } from "@shoal/model/bench";

export interface DeviceRequest {
  readonly webgpu: DenoEngine;
  readonly adapterName: string | undefined;
  /** Whether variants are chosen by a table, where there is one. */
  readonly tuning: boolean;
  /** How products of many tokens use matrix units: with activations rounded to f16, the default, or not, or not at all. */
  readonly matrices?: "f16" | "precise" | "off";
}

export interface DeviceReport {
  readonly adapter: AdapterDescription;
  readonly dialect: Dialect;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  readonly tuning: TuningReport;
}

export type TuneRequest = Pick<TuneOptions, "size" | "quick">;

export interface LoadRequest {
  /** Where `openLocation` finds the checkpoint. */
  readonly location: string;
  /** Instead of the checkpoint's own. */
  readonly config: ModelConfig | undefined;
  readonly mode: NumericMode;
  readonly kvFormat: KvFormat;
  readonly contextTokens: number;
  /** Undefined: the stage's own choice. */
  readonly maxTokens?: number | undefined;
  readonly maxOutputs?: number | undefined;
  readonly maxSequences?: number | undefined;
  readonly kvTokens?: number | undefined;
  readonly mtp?: boolean | undefined;
  /** Undefined: all. */
  readonly layers?: LayerRange | undefined;
  /** Of a swarm's model: every chunk is checked before it is used. `location` is then a directory, or empty where all that is needed is among the cached chunks. */
  readonly chunks?: { readonly manifestText: string; readonly cacheDirectory: string } | undefined;
  /** Instead of the open device: several, each in a process of its own, by parts of their adapters' names. */
  readonly fleet?: FleetWish | undefined;
  /** Of each device for routed experts; those that do not fit are read from the checkpoint when they are needed. Undefined: all are on the devices. */
  readonly expertBytes?: number | undefined;
}

/** In place of a name: every adapter that has one; those on the CPU only if there are no others. */
export const AUTO_DEVICES = "auto";

/** Adapters by parts of their names, in proportion to their shares; or what a plan says. */
export type FleetWish = (
  | { readonly members: readonly { readonly name: string; readonly share: number }[]; readonly split: Split }
  | { readonly plan: LoadablePlan }
) & { readonly activations: ActivationFormat };

export interface DevicePaging {
  readonly device: string;
  /** Of each shard on it. */
  readonly stats: readonly PagingStats[];
}

export interface Requirements extends MemoryRequirements {
  /** Why this adapter cannot run it; null where it can, as far as its limits tell. */
  readonly refusal: string | null;
}

export type GenerateRequest = Omit<GenerationRequest, "onTokens" | "onPrefill" | "signal">;

export type SubmitRequest = Omit<EngineRequest, "signal">;

export type BenchRequest = Omit<ModelBenchOptions, "onPhase" | "signal">;

export interface KernelBenchRequest {
  readonly size: BenchSize;
  /** Only these kernels, besides the copy. */
  readonly ops?: readonly string[];
}

export interface GpuBenchRequest {
  readonly size: BenchSize;
  readonly configs: DemoConfigs;
  /** Only these rows, besides the ceilings. */
  readonly only?: readonly GpuRowName[];
  /** Where `openLocation` finds the embedded model, a prompt for it, and the known answer. */
  readonly tiny: { readonly location: string; readonly promptIds: readonly number[]; readonly expectedIds: readonly number[] };
}

/** What a run of the suite says while it goes on. */
export type GpuBenchEvent = { readonly phase: { readonly row: GpuRowName; readonly what: string } } | { readonly row: GpuRow };

export type GpuBenchAnswer = GpuBench & { readonly timelines: readonly RowTimeline[] };

export interface LogitsRequest {
  readonly ids: readonly number[];
  readonly hidden: boolean;
  readonly routing: boolean;
  readonly mtp: boolean;
}

/** Results of one step of a prefill. Row 0 belongs to token `start`. */
export interface LogitsRows {
  readonly start: number;
  readonly tokens: number;
  /** [tokens, vocabSize] */
  readonly logits: Float32Array<ArrayBuffer>;
  /** By layer: [tokens, hiddenSize]. */
  readonly layerHidden: readonly Float32Array<ArrayBuffer>[];
  readonly routing: readonly RoutingCapture[];
  /** [tokens, vocabSize], one row less in the last step; null where nobody asked or there is none. */
  readonly mtpLogits: Float32Array<ArrayBuffer> | null;
}
