/**
 * Kernels one at a time, for benches that compare a model's steps with what the device can do: plain reads and copies, the smallest dispatch, and the products
 * that decoding a token of a large model is made of. Each is verified against its reference on a sample of its outputs before it is timed.
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { copyBytes, sumCount, sumWords } from "../bandwidth/kernel.ts";
import { encodeRouting } from "../experts.ts";
import { expertsDownFew, expertsGateUpFew } from "../expertsFew/kernel.ts";
import { combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { halvesBuffer } from "../matrix/halves.ts";
import { matmul } from "../matmul/kernel.ts";
import { matvec } from "../matvec/kernel.ts";
import { linearReference } from "../matvec/reference.ts";
import { type Random, assertClose, assertEqual, normals, randomRoutes, seededRandom, uploadBatch, withBuffers } from "../testing/mod.ts";
import { type BenchCase, type Keep, type Prepared, TOLERANCE, pick, sampledRows } from "./case.ts";
import { benchExperts, benchMatrix } from "./pattern.ts";
import { timeDispatches } from "./timing.ts";

export interface SingleShapes {
  /** Sizes of buffers to read, of which the best rate counts. */
  readonly readBytes: readonly number[];
  /** Of the experts; all widths are multiples of 16. */
  readonly hidden: number;
  readonly width: number;
  readonly experts: number;
  /** Experts that a token takes. */
  readonly slots: number;
  /** Rows of the BF16 head. */
  readonly vocab: number;
  /** Of a large FP8 product: rows, columns, tokens. */
  readonly matmul: readonly [rows: number, cols: number, tokens: number];
}

export interface SingleKernel {
  readonly name: string;
  readonly prepare: BenchCase["prepare"];
}

export interface SingleResult<T> {
  /** Of one run. */
  readonly ms: number;
  readonly bytes: number;
  readonly flops: number;
  readonly dispatches: number;
  readonly inspected: T;
}

/**
 * Verifies, inspects and times, in this order.
 * @param inspect what else to do with the dispatches while their buffers live
 * @throws MismatchError if the kernel is wrong; GpuError named GpuOutOfMemoryError where its buffers do not fit
 */
export async function measureSingle<T>(
  gpu: GpuContext,
  kernel: SingleKernel,
  inspect: (dispatches: readonly Dispatch[]) => Promise<T>,
  signal?: AbortSignal,
): Promise<SingleResult<T>> {
  return withBuffers(gpu, async (keep) => {
    signal?.throwIfAborted();
    const { dispatches, verify } = await kernel.prepare(gpu, keep, seededRandom(1));
    gpu.submit(dispatches);
    await verify();
    const inspected = await inspect(dispatches);
    const ms = await timeDispatches(gpu, dispatches, signal);
    const sum = (of: "bytes" | "flops"): number => dispatches.reduce((total, dispatch) => total + (dispatch[of] ?? 0), 0);
    return { ms, bytes: sum("bytes"), flops: sum("flops"), dispatches: dispatches.length, inspected };
  });
}

const WORD_BYTES = 4096;

export function readKernel(wanted: number): SingleKernel {
  return {
    name: `read ${Math.round(wanted / 2 ** 20)} MiB`,
    prepare: async (gpu, keep, random) => {
      const bytes = fitting(gpu, wanted);
      const from = keep(gpu.buffer({ label: "from", size: bytes, kind: "scratch" }));
      const sums = keep(gpu.buffer({ label: "sums", size: sumCount(bytes) * 4, kind: "scratch" }));
      const words = Uint32Array.from({ length: WORD_BYTES / 4 }, () => random.integer(2 ** 32));
      gpu.write(from, bytes - WORD_BYTES, words);
      const add = (a: number, b: number): number => (a + b) >>> 0;
      const verify = async (): Promise<void> => {
        const parts = new Uint32Array(await gpu.read(sums, 0, sumCount(bytes) * 4));
        assertEqual([parts.reduce(add)], [words.reduce(add)], "sum");
      };
      return { dispatches: [await sumWords(gpu, from, sums, bytes)], verify };
    },
  };
}

/** The smallest dispatch there is: what a step pays for each of its own that waits for the one before. */
export const smallestDispatch: SingleKernel = { name: "a dispatch that waits for the one before", prepare: readKernel(WORD_BYTES).prepare };

export function copyKernel(wanted: number): SingleKernel {
  return {
    name: `copy ${Math.round(wanted / 2 ** 20)} MiB`,
    prepare: async (gpu, keep, random) => {
      const bytes = fitting(gpu, wanted);
      const from = keep(gpu.buffer({ label: "from", size: bytes, kind: "scratch" }));
      const to = keep(gpu.buffer({ label: "to", size: bytes, kind: "scratch" }));
      const words = Uint32Array.from({ length: WORD_BYTES / 4 }, () => random.integer(2 ** 32));
      gpu.write(from, bytes - WORD_BYTES, words);
      const verify = async (): Promise<void> =>
        assertEqual(new Uint32Array(await gpu.read(to, bytes - WORD_BYTES, WORD_BYTES)), words, "copy");
      return { dispatches: [await copyBytes(gpu, from, to, bytes)], verify };
    },
  };
}

function fitting(gpu: GpuContext, wanted: number): number {
  const most = gpu.limits.maxStorageBufferBindingSize;
  return Math.min(wanted, most - (most % WORD_BYTES));
}

export function gateUpKernel(shapes: SingleShapes): SingleKernel {
  const { hidden, width, slots, experts } = shapes;
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const { group, gateRows, upRows } = benchExperts(gpu, keep, random, { count: experts, hidden, width, only: "gateUp" });
    const routes = randomRoutes(random, experts, 1, slots);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const input = normals(random, hidden);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const h = keep(gpu.buffer({ label: "h", size: slots * width * 4, kind: "activations" }));
    const dispatches = await expertsGateUpFew(gpu, { group, slots, routing, x, xStride: hidden, h, tokens: 1 });
    const verify = async (): Promise<void> => {
      const rows = sampledRows(random, width);
      const values = { hidden, width: rows.length, gate: gateRows(rows), up: upRows(rows), down: new Float64Array() };
      const result = new Float32Array(await gpu.read(h, 0, slots * width * 4));
      assertClose(pick(result, slots, width, rows), gateUpReference(values, input, routes, slots), TOLERANCE, "h");
    };
    return { dispatches, verify };
  };
  return { name: `${slots} of ${experts} experts, ${width} x ${hidden} fp8, gate and up, 1 token`, prepare };
}

export function downKernel(shapes: SingleShapes): SingleKernel {
  const { hidden, width, slots, experts } = shapes;
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const { group, downRows } = benchExperts(gpu, keep, random, { count: experts, hidden, width, only: "down" });
    const routes = randomRoutes(random, experts, 1, slots);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const inner = normals(random, slots * width);
    const h = keep(gpu.upload("h", Float32Array.from(inner), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: hidden * 4, kind: "activations" }));
    const dispatches = await expertsDownFew(gpu, { group, slots, routing, h, y, yStride: hidden, residual: false, tokens: 1 });
    const verify = async (): Promise<void> => {
      const rows = sampledRows(random, hidden);
      const values = { hidden: rows.length, width, gate: new Float64Array(), up: new Float64Array(), down: downRows(rows) };
      const result = new Float32Array(await gpu.read(y, 0, hidden * 4));
      const expected = combineReference(downReference(values, inner, routes), routes, slots, new Float64Array(rows.length));
      assertClose(pick(result, 1, hidden, rows), expected, TOLERANCE, "y");
    };
    return { dispatches, verify };
  };
  return { name: `${slots} of ${experts} experts, ${hidden} x ${width} fp8, down and weighted sum, 1 token`, prepare };
}

export function headKernel({ vocab, hidden }: SingleShapes): SingleKernel {
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const { matrix, rowsOf } = benchMatrix(gpu, keep, random, { rows: vocab, cols: hidden, format: "bf16" });
    const input = normals(random, hidden);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: vocab * 4, kind: "activations" }));
    const dispatches = await matvec(gpu, { matrix, tokens: 1, x, xStride: hidden, y, yStride: vocab });
    const verify = async (): Promise<void> => {
      const rows = sampledRows(random, vocab);
      const result = new Float32Array(await gpu.read(y, 0, vocab * 4));
      assertClose(pick(result, 1, vocab, rows), linearReference(input, rowsOf(rows), 1, rows.length, hidden), TOLERANCE, "logits");
    };
    return { dispatches, verify };
  };
  return { name: `${vocab} x ${hidden} bf16, 1 token`, prepare };
}

/** A product so large that arithmetic is all it waits for. Its last token is compared, to `rel` of the largest output where the variant rounds its inputs to f16. */
export function matmulKernel({ matmul: [rows, cols, tokens] }: SingleShapes, tolerance = TOLERANCE): SingleKernel {
  const prepare = async (gpu: GpuContext, keep: Keep, random: Random): Promise<Prepared> => {
    const { matrix, rowsOf } = benchMatrix(gpu, keep, random, { rows, cols, format: "fp8" });
    const input = normals(random, tokens * cols);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
    const halves = keep(halvesBuffer(gpu, { rows: tokens, columns: cols }));
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
    keep(step.batch);
    const dispatches = await matmul(gpu, { matrix, tokens, halves, x, xStride: cols, y, yStride: rows, step });
    const verify = async (): Promise<void> => {
      const sampled = sampledRows(random, rows);
      const result = new Float32Array(await gpu.read(y, (tokens - 1) * rows * 4, rows * 4));
      const expected = linearReference(input.subarray((tokens - 1) * cols), rowsOf(sampled), 1, sampled.length, cols);
      assertClose(pick(result, 1, rows, sampled), expected, tolerance, "y of matmul");
    };
    return { dispatches, verify };
  };
  return { name: `${rows} x ${cols} fp8, ${tokens} tokens`, prepare };
}
