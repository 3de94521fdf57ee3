/** What attention over a short context is chosen by, and how it may run. */
import type { KvFormat } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import type { Variant } from "../variants.ts";
import type { WeightFormat } from "../weights.ts";

/** Positions that a token attends to at most, and of them those of its own step. */
export const ATTEND_POSITIONS = 512;
export const ATTEND_OWN_ROWS = 4;

export interface AttendShape {
  readonly shape: MlaShape;
  readonly kvFormat: KvFormat;
  /** Of kv_b_proj. */
  readonly format: WeightFormat;
  /** Of the step. */
  readonly tokens: number;
  /** Whether there is room for what goes from one dispatch to the next, if it takes several. */
  readonly hasRoom: boolean;
}

export interface AttendTeams {
  /** Invocations of a workgroup. */
  readonly workgroup: number;
  /** That a workgroup decodes its head's weights once for. */
  readonly tokens: 1 | 2 | 4;
}

export interface AttendVariant extends Variant {
  /** In three, by subgroup matrices or as if. */
  readonly matrices?: "hardware" | "emulated";
  /** Share of the largest result by which results may be wrong, where that is more than f32 sums in loops are. */
  readonly tolerance?: number;
  /** Absent, as is `matrices`: not in one dispatch, but as kvWrite, qAbsorb, mlaAttention and mlaOutput have it. */
  readonly teams?: AttendTeams;
}
