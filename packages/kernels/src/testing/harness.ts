/** What a contract suite is made of. Suites know no test runner: Deno and Chromium run the same ones (test/contracts.gpu.test.ts, e2e/). */
import type { Dispatch, GpuContext } from "@shoal/gpu";

export interface ContractCase {
  readonly name: string;
  /** Throws if the contract does not hold. Makes all its kernels before its first comparison: test/compile-shaders.ts goes no further. */
  readonly run: (gpu: GpuContext) => Promise<void>;
}

/** Runs `body` with a list into which it puts buffers to free; frees them whatever happens, and makes GPU errors throw. */
export async function withBuffers<T>(gpu: GpuContext, body: (keep: <B extends GPUBuffer>(buffer: B) => B) => Promise<T>): Promise<T> {
  const buffers: GPUBuffer[] = [];
  try {
    return await gpu.scoped("run a contract case", () =>
      body((buffer) => {
        buffers.push(buffer);
        return buffer;
      }),
    );
  } finally {
    for (const buffer of buffers) gpu.destroyBuffer(buffer);
  }
}

/** [rows, cols] numbers as f32, rows `stride` apart, the rest zero (or `fill`, to show that padding is not read). */
export function padded(values: ArrayLike<number>, rows: number, cols: number, stride: number, fill = 0): Float32Array<ArrayBuffer> {
  const out = new Float32Array(rows * stride).fill(fill);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[r * stride + c] = values[r * cols + c] ?? 0;
  return out;
}

/** The reverse of `padded`. */
export function unpadded(values: ArrayLike<number>, rows: number, cols: number, stride: number): Float64Array {
  const out = new Float64Array(rows * cols);
  for (let r = 0; r < rows; r++) for (let c = 0; c < cols; c++) out[r * cols + c] = values[r * stride + c] ?? Number.NaN;
  return out;
}

/** Submits and reads a buffer back as f32. */
export async function runAndRead(gpu: GpuContext, dispatches: readonly Dispatch[], buffer: GPUBuffer): Promise<Float32Array> {
  gpu.submit(dispatches);
  return new Float32Array(await gpu.read(buffer));
}

/**
 * Of variants, what one case of a suite runs: one in `every`, others for the next `turn`, and at least one. For software adapters above all, whose compilers take
 * seconds for each.
 */
export function oneIn<V>(every: number, variants: readonly V[], turn: number): readonly V[] {
  const some = variants.filter((_, index) => (index + turn) % every === 0);
  return some.length > 0 ? some : variants.slice(turn % Math.max(1, variants.length)).slice(0, 1);
}
