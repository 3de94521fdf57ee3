/** RMSNorm of the residual stream in the forms that products of many tokens want (shaders/rmsNorm/operands.wgsl), after adding to it what a layer's experts gave. */
import type { BufferRange, Dispatch, GpuContext, ShaderConstants } from "@shoal/gpu";
import { type HalvesRows, halvesOctets, halvesOutputConstants } from "../matrix/halves.ts";
import { rowConstants } from "../weights.ts";

/** What experts gave each token, to be summed. */
export interface ExpertSums {
  /** [tokens, slots] of (expert, weight as f32 bits). */
  readonly routing: GPUBuffer;
  readonly slots: number;
  /** [tokens * slots, outStride] f32. */
  readonly out: GPUBuffer;
  readonly outStride: number;
}

export interface NormOperandsSpec {
  /** x [tokens, xStride] f32, zero beyond `cols`; xStride a multiple of 16. */
  readonly x: GPUBuffer;
  readonly xStride: number;
  /** Added to x, which is stored, before anything else. */
  readonly add?: ExpertSums | undefined;
  /** [roundUp(cols, 16)] f32. */
  readonly gamma: BufferRange;
  readonly epsilon: number;
  readonly cols: number;
  /** Where the result goes as f32, [tokens, stride]: another buffer than x. */
  readonly y?: { readonly buffer: GPUBuffer; readonly stride: number } | undefined;
  /** And as halves. */
  readonly halves?: HalvesRows | undefined;
  /** Every one of these rows is computed. */
  readonly tokens: number;
  readonly label?: string;
}

/** Vectors of what experts gave that an invocation has under way at once. */
const MOST_AHEAD = 16;

/** @throws RangeError if the layout of the halves is not that of so many rows and columns */
export async function normOperands(gpu: GpuContext, spec: NormOperandsSpec): Promise<readonly Dispatch[]> {
  const { cols, tokens, label = "rmsNorm" } = spec;
  const row = rowConstants(gpu, cols);
  const kernel = await gpu.kernel("rmsNorm/operands.wgsl", { ...row, ...normOperandConstants(spec, row.WORKGROUP) }, label);
  return [kernel.dispatch(normOperandBuffers(spec), [tokens, 1, 1], normOperandCost(spec), label)];
}

/**
 * Constants of lib/norm_operands.wgsl, but for the workgroup's.
 * @throws RangeError if the layout of the halves is not that of so many rows and columns
 */
export function normOperandConstants(
  { xStride, add, epsilon, cols, y, halves, tokens }: NormOperandsSpec,
  workgroup: number,
): ShaderConstants {
  const octets = halvesOctets(cols);
  if (halves && (halves.layout.rows !== tokens || halvesOctets(halves.layout.columns) !== octets))
    throw new RangeError(`Cannot write ${tokens} rows of ${cols} as ${halves.layout.rows} rows of ${halves.layout.columns}`);
  const own = Math.ceil(octets / workgroup);
  const ahead = Math.max(1, Math.min(add?.slots ?? 1, Math.floor(MOST_AHEAD / (2 * own))));
  return {
    COLS: cols,
    OCTETS: octets,
    OWN_OCTETS: own,
    OWN_VECTORS: 2 * own,
    X_STRIDE: xStride,
    EPSILON: { f32: epsilon },
    EXACT: false,
    ADD: add !== undefined,
    ...(add && { SLOTS: add.slots, OUT_STRIDE: add.outStride, SLOTS_AHEAD: ahead, GIVEN: ahead * 2 * own }),
    PLAIN: y !== undefined,
    ...(y && { Y_STRIDE: y.stride }),
    HALVES: halves !== undefined,
    ...(halves && halvesOutputConstants(halves.layout)),
  };
}

/** What it binds. */
export function normOperandBuffers({ x, gamma, add, y, halves }: NormOperandsSpec): Readonly<Record<string, BufferRange>> {
  return {
    x,
    gamma,
    ...(add && { routing: add.routing, out: add.out }),
    ...(y && { y: y.buffer }),
    ...(halves && { halves: halves.buffer }),
  };
}

/** What it costs. */
export function normOperandCost({ add, cols, y, halves, tokens }: NormOperandsSpec): { readonly bytes: number; readonly flops: number } {
  const bytes = 4 + (y ? 4 : 0) + (halves ? 2 * halves.layout.products : 0) + (add ? 4 + 4 * add.slots : 0);
  return { bytes: tokens * cols * bytes, flops: tokens * cols * (4 + 2 * (add?.slots ?? 0)) };
}
