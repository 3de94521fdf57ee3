/** What a shader that attends is, and what it is chosen by. */
import type { ShaderConstants } from "@shoal/gpu";
import type { KvFormat } from "../kvRow.ts";
import type { MlaShape } from "../mla.ts";
import type { Variant } from "../variants.ts";

export interface AttentionShape extends Pick<MlaShape, "nHeads" | "kvLoraRank" | "qkRopeHeadDim"> {
  /** Of the cache. */
  readonly format: KvFormat;
}

export interface AttentionVariant extends Variant {
  readonly shader: string;
  /** Heads that share a workgroup's loads of the cache: grids are made of them. */
  readonly groupHeads: number;
  /** Share of the largest result by which results may be wrong, where that is more than f32 sums in loops are. */
  readonly tolerance?: number;
  /** Constants that depend on the shape. */
  readonly shapeConstants: (shape: AttentionShape) => ShaderConstants;
}
