/** What a device is asked. */
import type { LocalExpertShardOptions, LocalStageOptions } from "@shoal/model";
import { z } from "zod";

const size = z
  .int()
  .min(0)
  .max(2 ** 31);

export const openRequest = z.strictObject({
  webgpu: z.enum(["auto", "wgpu", "dawn"]),
  adapterName: z.string().max(200).optional(),
  subgroupMatrix: z.union([z.boolean(), z.literal("precise")]).optional(),
});

const stageOptionsSchema = z.strictObject({
  mode: z.enum(["w8a32", "w8a8"]).optional(),
  kvFormat: z.enum(["f32", "f16", "fp8"]).optional(),
  contextTokens: size.optional(),
  maxSequences: size.optional(),
  kvTokens: size.optional(),
  maxTokens: size.optional(),
  maxOutputs: size.optional(),
  mtp: z.boolean().optional(),
  layers: z.strictObject({ begin: size, end: size }).optional(),
});

export const loadStageRequest = z.strictObject({
  /** Where `openLocation` finds the checkpoint. */
  location: z.string().max(4096),
  /** A ModelConfig instead of the checkpoint's own. */
  config: z.record(z.string(), z.unknown()).optional(),
  options: stageOptionsSchema,
  /** Which object of the other side has the routed experts, if this device does not. */
  experts: size.optional(),
  /** Which shard on this device has some of them, or all. */
  ownExperts: size.optional(),
  activations: z.enum(["f32", "f16", "fp8"]),
});

const shardOptionsSchema = z.strictObject({
  experts: z.array(z.strictObject({ layer: size, experts: z.array(size).max(4096) })).max(1024),
  mode: z.enum(["w8a32", "w8a8"]).optional(),
  maxTokens: size.optional(),
  budgetBytes: z.number().min(0).optional(),
  hostBytes: z.number().min(0).optional(),
});

export const loadShardRequest = z.strictObject({
  location: z.string().max(4096),
  config: z.record(z.string(), z.unknown()).optional(),
  options: shardOptionsSchema,
});

export const pagingResult = z
  .array(
    z.strictObject({
      needed: z.number(),
      hits: z.number(),
      loads: z.number(),
      loadedBytes: z.number(),
      prefetched: z.number(),
      prefetchHits: z.number(),
      stallMs: z.number(),
    }),
  )
  .max(256);

export const deviceTimes = z.strictObject({ readbackMs: z.number(), uploadBytesPerSecond: z.number(), copyBytesPerSecond: z.number() });

export const deviceReport = z.strictObject({
  adapter: z.strictObject({
    vendor: z.string(),
    architecture: z.string(),
    device: z.string(),
    description: z.string(),
    isSoftware: z.boolean(),
  }),
  engine: z.enum(["wgpu", "dawn", "browser"]),
  maxBindingBytes: z.number(),
});

export const target = z.int().min(1).max(0xffffffff);
export const progress = z.looseObject({ loadedBytes: z.number(), totalBytes: z.number() });

export type OpenRequest = z.infer<typeof openRequest>;
export type LoadStageRequest = z.infer<typeof loadStageRequest>;
export type LoadShardRequest = z.infer<typeof loadShardRequest>;
export type DeviceReport = z.infer<typeof deviceReport>;

/** Without the keys that are undefined. */
export function stageOptions(options: z.infer<typeof stageOptionsSchema>): LocalStageOptions {
  return defined(options);
}

export function shardOptions({ experts, ...options }: z.infer<typeof shardOptionsSchema>): LocalExpertShardOptions {
  return { experts, ...defined(options) };
}

function defined(options: Readonly<Record<string, unknown>>): Record<string, never> {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Record<string, never>;
}
