/** The input of the multi-token prediction module (shaders/mtpInput/mtpInput.wgsl). */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import type { Step } from "../batch.ts";
import { rowConstants } from "../weights.ts";

export interface MtpInputSpec {
  /** Of the next token, [tokens, stride] f32; stride is a multiple of 4. */
  readonly embedding: GPUBuffer;
  /** Says which row of `hidden` each row goes on from (`sources`). */
  readonly step: Step;
  /** The main model's state after its last norm, [rows of its step, stride] f32. */
  readonly hidden: GPUBuffer;
  readonly stride: number;
  /** Both [roundUp(cols, 16)] f32. */
  readonly enormGamma: GPUBuffer;
  readonly hnormGamma: GPUBuffer;
  readonly epsilon: number;
  readonly cols: number;
  /** [tokens, outStride] f32, 2 cols columns written. */
  readonly out: GPUBuffer;
  readonly outStride: number;
  /** Every one of these rows is computed. */
  readonly tokens: number;
  /** Sums exactly: see exact/kernel.ts. */
  readonly exact?: boolean;
  readonly label?: string;
}

export async function mtpInput(gpu: GpuContext, spec: MtpInputSpec): Promise<readonly Dispatch[]> {
  const {
    embedding,
    step,
    hidden,
    stride,
    enormGamma,
    hnormGamma,
    epsilon,
    cols,
    out,
    outStride,
    tokens,
    exact = false,
    label = "mtp-input",
  } = spec;
  const kernel = await gpu.kernel(
    "mtpInput/mtpInput.wgsl",
    {
      ...rowConstants(gpu, cols),
      COLS: cols,
      MAX_TOKENS: step.maxTokens,
      STRIDE: stride,
      OUT_STRIDE: outStride,
      EPSILON: { f32: epsilon },
      EXACT: exact,
    },
    label,
  );
  const buffers = { embedding, hidden, enorm_gamma: enormGamma, hnorm_gamma: hnormGamma, out, batch: step.batch };
  return [kernel.dispatch(buffers, [tokens, 2, 1], { bytes: tokens * cols * 16, flops: tokens * cols * 8 }, label)];
}
