/** What a checkpoint consists of and what a run of it needs: bytes by kind, parameters, memory. Pure. */
import type { TensorInfo } from "@shoal/safetensors";

import type { ModelConfig } from "./config.ts";
import { kvBytesPerToken, type KvFormat } from "./derived.ts";
import { tensorSchema, type TensorRole, type TensorSpec } from "./tensor-schema.ts";

/** `mtp`: all of the MTP modules, their scales included. `scales`: the main model's. `other`: no part of the model. */
export type TensorKind =
  | "embedding"
  | "attention"
  | "denseMlp"
  | "routedExperts"
  | "sharedExperts"
  | "router"
  | "norms"
  | "head"
  | "mtp"
  | "scales"
  | "other";

export interface CheckpointSummary {
  readonly tensorCount: number;
  /** Of all tensors in the files. */
  readonly totalBytes: number;
  readonly bytesByKind: Readonly<Record<TensorKind, number>>;
  /** Of the tensors that a run loads: without duplicates and without `other`. */
  readonly loadBytes: number;
  /** The part of `loadBytes` that the MTP modules take. */
  readonly mtpLoadBytes: number;
  /** Numbers, scales not counted, duplicates not counted. */
  readonly parameters: {
    readonly main: number;
    readonly mtp: number;
    /** Used by one token in the main model: one row of the embedding, the chosen experts, and everything else. */
    readonly activePerToken: number;
  };
}

const KIND_OF_ROLE: Readonly<Record<TensorRole, TensorKind>> = {
  embedding: "embedding",
  attention: "attention",
  denseMlp: "denseMlp",
  routedExpert: "routedExperts",
  sharedExpert: "sharedExperts",
  router: "router",
  norm: "norms",
  head: "head",
  mtpProjection: "mtp",
};

export function summarize(config: ModelConfig, tensors: ReadonlyMap<string, TensorInfo>): CheckpointSummary {
  const bytesByKind: Record<TensorKind, number> = {
    embedding: 0,
    attention: 0,
    denseMlp: 0,
    routedExperts: 0,
    sharedExperts: 0,
    router: 0,
    norms: 0,
    head: 0,
    mtp: 0,
    scales: 0,
    other: 0,
  };
  const known = new Set<string>();
  let loadBytes = 0;
  let mtpLoadBytes = 0;
  const count = (name: string, kind: TensorKind, spec: TensorSpec) => {
    const bytes = tensors.get(name)?.byteLength;
    if (bytes === undefined) return;
    known.add(name);
    bytesByKind[spec.mtp ? "mtp" : kind] += bytes;
    if (spec.duplicateOf !== null) return;
    loadBytes += bytes;
    if (spec.mtp) mtpLoadBytes += bytes;
  };
  const schema = tensorSchema(config);
  for (const spec of schema) {
    count(spec.name, KIND_OF_ROLE[spec.role], spec);
    if (spec.scaleName !== undefined) count(spec.scaleName, "scales", spec);
  }
  let totalBytes = 0;
  for (const [name, tensor] of tensors) {
    totalBytes += tensor.byteLength;
    if (!known.has(name)) bytesByKind.other += tensor.byteLength;
  }
  return Object.freeze({
    tensorCount: tensors.size,
    totalBytes,
    bytesByKind: Object.freeze(bytesByKind),
    loadBytes,
    mtpLoadBytes,
    parameters: countParameters(config, schema),
  });
}

function countParameters(config: ModelConfig, schema: readonly TensorSpec[]): CheckpointSummary["parameters"] {
  let main = 0;
  let mtp = 0;
  let active = 0;
  for (const spec of schema) {
    if (spec.duplicateOf !== null) {
      // A tied head multiplies by the embedding all the same.
      if (spec.role === "head" && !spec.mtp) active += product(spec.shape);
      continue;
    }
    const size = product(spec.shape);
    if (spec.mtp) {
      mtp += size;
      continue;
    }
    main += size;
    if (spec.role === "embedding") active += config.hiddenSize;
    else if (spec.role === "routedExpert") active += (size * config.nActivatedExperts) / config.nRoutedExperts;
    else active += size;
  }
  return Object.freeze({ main, mtp, activePerToken: active });
}

function product(shape: readonly number[]): number {
  return shape.reduce((total, dim) => total * dim, 1);
}

export interface MemoryNeed {
  readonly weightBytes: number;
  readonly kvBytes: number;
  readonly totalBytes: number;
}

/** Weights and KV cache of a run; activations and scratch, which depend on the batch, come on top. */
export function memoryNeeded(
  config: ModelConfig,
  summary: Pick<CheckpointSummary, "loadBytes" | "mtpLoadBytes">,
  run: { readonly contextTokens: number; readonly kvFormat?: KvFormat; readonly mtp?: boolean },
): MemoryNeed {
  const { contextTokens, kvFormat = "f16", mtp = config.nMtpLayers > 0 } = run;
  const weightBytes = summary.loadBytes - (mtp ? 0 : summary.mtpLoadBytes);
  const kvBytes = contextTokens * kvBytesPerToken(config, kvFormat, config.nLayers + (mtp ? config.nMtpLayers : 0));
  return Object.freeze({ weightBytes, kvBytes, totalBytes: weightBytes + kvBytes });
}
