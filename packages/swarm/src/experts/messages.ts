/**
 * What a stage and a peer that may hold some of its experts say to one another, over a link that the latter asked for. The stage calls: what do you have room for (`offer`); how quick is the
 * link (`probe`); hold these (`hold`), which is answered when they are loaded; and then the calls of an expert shard.
 */
import { DEFAULT_SHARD_TOKENS } from "@shoal/model";
import { Tensor } from "@shoal/cluster";
import { z } from "zod";
import { MAX_LAYERS } from "../control/announcement.ts";
import type { LayerRange } from "../plan/range.ts";
import type { ExpertRange } from "../plan/experts.ts";

export const SHARD_TARGET = 0;
export const HELP_TARGET = 1;

/** Of a probe: as large as what a prompt's step sends, so that its time tells of the link's throughput. */
export const PROBE_VALUES = 2 ** 16;
/** Rows that a stage may ask for at once: as many as its own steps have. */
export const MAX_EXPERT_ROWS = DEFAULT_SHARD_TOKENS;

const layer = z.int().min(0).max(MAX_LAYERS);
const range = z.strictObject({ begin: layer, end: layer }).refine(({ begin, end }) => begin < end, "begin before end");
const expert = z.int().min(0).max(4096);

/** Layers that nobody holds: those of them are counted that the helper could hold whole. */
export const offerCall = z.strictObject({ gap: range });
export const offerResult = z.strictObject({
  /** For experts. */
  memoryBytes: z
    .number()
    .min(0)
    .max(2 ** 50),
  alone: z.int().min(0).max(MAX_LAYERS),
  bytesPerSecond: z.number().min(1).max(1e15),
  readbackMs: z.number().min(0).max(60_000),
});
export type Offer = z.infer<typeof offerResult>;
export const probeCall = z.strictObject({ padding: z.instanceof(Tensor) });
export const holdCall = z
  .strictObject({ layers: range, begin: expert, end: expert, maxTokens: z.int().min(1).max(MAX_EXPERT_ROWS) })
  .refine(({ begin, end }) => begin < end, "begin before end");

/** Experts of each MoE layer of some. */
export interface HeldExperts extends ExpertRange {
  readonly layers: LayerRange;
  /** Most rows in a call. */
  readonly maxTokens: number;
}

/** Of a frame in either direction. */
export function maxExpertBytes(hiddenSize: number, slots: number): number {
  return Math.max(PROBE_VALUES * 4, MAX_EXPERT_ROWS * (hiddenSize * 4 + slots * 8)) + 8192;
}
