/** The shapes that kernels are timed at. */
import type { MlaShape } from "../mla.ts";

export type BenchSize = "small" | "full";

/** All widths are multiples of 16, so that rows have no padding. */
export interface BenchShapes {
  /** Of one buffer that is copied or read. */
  readonly copyBytes: number;
  readonly hidden: number;
  /** Columns of the attention's output product, the widest one. */
  readonly attentionWidth: number;
  readonly vocab: number;
  readonly mla: MlaShape;
  readonly contextTokens: number;
  readonly experts: number;
  readonly expertWidth: number;
  /** Experts that a token takes. */
  readonly slots: number;
  /** Of a prefill step. */
  readonly tokens: number;
}

export const BENCH_SHAPES: Readonly<Record<BenchSize, BenchShapes>> = {
  /** For software adapters: right answers in seconds, times that mean little. */
  small: {
    copyBytes: 16 * 2 ** 20,
    hidden: 512,
    attentionWidth: 2048,
    vocab: 16_384,
    mla: { nHeads: 8, qkNopeHeadDim: 64, qkRopeHeadDim: 32, vHeadDim: 64, kvLoraRank: 256 },
    contextTokens: 512,
    experts: 16,
    expertWidth: 256,
    slots: 9,
    tokens: 64,
  },
  /** DeepSeek-V3's, with as many experts as make the caches too small for those that are chosen. */
  full: {
    copyBytes: 512 * 2 ** 20,
    hidden: 7168,
    attentionWidth: 16_384,
    vocab: 129_280,
    mla: { nHeads: 128, qkNopeHeadDim: 128, qkRopeHeadDim: 64, vHeadDim: 128, kvLoraRank: 512 },
    contextTokens: 8192,
    experts: 16,
    expertWidth: 2048,
    slots: 9,
    tokens: 512,
  },
};
