/**
 * A position's row in the latent cache: the normed latent (kvLoraRank) and the rotated key part that all heads share (qkRopeHeadDim).
 *
 * f32, f16: the values one after the other, then zeros up to a multiple of 8.
 *
 * fp8: the row that FlashMLA and vLLM call "fp8_ds_mla", for any rank. Bytes, little-endian:
 *
 *     0                        latent, e4m3, kvLoraRank of them, zeros up to a multiple of 4
 *     fp8KvRow().scales        a scale (f32, which multiplies) for every 128 of them
 *     fp8KvRow().keys          key part, bf16, qkRopeHeadDim of them, zeros up to a multiple of 16 bytes
 *
 * For DeepSeek-V3 (512, 64): 512 + 16 + 128 = 656 bytes.
 */
import { SCALE_BLOCK, roundUp } from "./weights.ts";

export type KvFormat = "f32" | "f16" | "fp8";

export interface KvRowShape {
  readonly kvLoraRank: number;
  /** Even. */
  readonly qkRopeHeadDim: number;
}

export interface Fp8KvRow {
  /** Byte offsets. */
  readonly scales: number;
  readonly keys: number;
  /** From one row to the next. */
  readonly bytes: number;
}

export function fp8KvRow({ kvLoraRank, qkRopeHeadDim }: KvRowShape): Fp8KvRow {
  const scales = roundUp(kvLoraRank, 4);
  const keys = scales + Math.ceil(kvLoraRank / SCALE_BLOCK) * 4;
  return { scales, keys, bytes: roundUp(keys + qkRopeHeadDim * 2, 16) };
}

/** Values of a row with its zeros, as f32 and f16 keep it. */
export function kvRowElements({ kvLoraRank, qkRopeHeadDim }: KvRowShape): number {
  return roundUp(kvLoraRank + qkRopeHeadDim, 8);
}

/** From one position to the next. */
export function kvRowBytes(shape: KvRowShape, format: KvFormat): number {
  if (format === "fp8") return fp8KvRow(shape).bytes;
  return kvRowElements(shape) * (format === "f16" ? 2 : 4);
}
