/** Small programs run once when a device is opened, because no limit or feature says whether a device computes them right. */
import type { ShaderConstants } from "./assemble.ts";
import type { GpuContext } from "./context.ts";
import { e4m3ToNumber } from "./e4m3.ts";

/** All 256 codes, bit by bit; the two NaN codes are rejected when weights are loaded and not looked at. */
export async function passesFp8SelfTest(gpu: GpuContext, decode: "unpack" | "select"): Promise<boolean> {
  const kernel = await gpu.kernel("selftest/fp8.wgsl", { FP8_DECODE: decode });
  const codes = gpu.upload(
    "self-test codes",
    Uint8Array.from({ length: 256 }, (_, code) => code),
    "scratch",
  );
  const values = gpu.buffer({ label: "self-test values", size: 1024, kind: "scratch" });
  try {
    gpu.submit([kernel.dispatch({ codes, values }, [1, 1, 1])]);
    const result = new Float32Array(await gpu.read(values));
    return result.every((value, code) => (code & 0x7f) === 0x7f || value === e4m3ToNumber(code));
  } finally {
    gpu.destroyBuffer(codes);
    gpu.destroyBuffer(values);
  }
}

/** f16 arithmetic that comes out exactly; false also where the shader does not compile. */
export async function passesF16SelfTest(gpu: GpuContext): Promise<boolean> {
  const numbers = Array.from({ length: 64 }, (_, i) => ({ a: i - 32, b: 2 ** ((i % 4) - 2), c: i }));
  const expected = numbers.map(({ a, b, c }) => a * b + c);
  const inputs = { numbers: Float32Array.from(numbers.flatMap(({ a, b, c }) => [a, b, c, 0])) };
  return computes(gpu, { path: "selftest/f16.wgsl", constants: {}, inputs }, expected);
}

/**
 * Products of 16 x 16 matrices by subgroup matrices, or by their emulation: sums that take more bits than f16 has, and factors that are subnormal in f16.
 * False also where the shader does not compile.
 */
export async function passesSubgroupMatrixSelfTest(gpu: GpuContext, how: "hardware" | "emulated"): Promise<boolean> {
  const a = Array.from({ length: 512 }, (_, i) => ((Math.floor(i / 16) * 7 + i * 3) % 17) - 8);
  // By columns; column 3 is of subnormal numbers.
  const b = Array.from({ length: 256 }, (_, i) => (((i * 11 + (i >> 4)) % 15) - 7) * (i >> 4 === 3 ? 2 ** -24 : 1));
  for (const large of [a, b]) large.fill(1024, 0, 2);
  const expected = Array.from({ length: 512 }, (_, i) => {
    const [row, column] = [i >> 4, i & 15];
    return 1.5 * Array.from({ length: 16 }, (_unused, k) => (a[row * 16 + k] ?? 0) * (b[column * 16 + k] ?? 0)).reduce((x, y) => x + y);
  });
  const operands = Uint16Array.from([...a, ...b], toF16);
  return computes(gpu, { path: "selftest/subgroup_matrix.wgsl", constants: { SUBGROUP_MATRIX: how }, inputs: { operands } }, expected);
}

/** Exact for 0, for integers up to 2048, and for these times 2^-24. */
function toF16(value: number): number {
  const sign = value < 0 ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return sign | (magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  return sign | ((exponent + 15) << 10) | ((magnitude / 2 ** exponent - 1) * 1024);
}

interface SelfTest {
  readonly path: string;
  readonly constants: ShaderConstants;
  readonly inputs: Readonly<Record<string, ArrayBufferView<ArrayBuffer>>>;
}

/** Whether one workgroup writes these `results`, as f32. False also where the shader does not compile. */
async function computes(gpu: GpuContext, { path, constants, inputs }: SelfTest, expected: readonly number[]): Promise<boolean> {
  const results = gpu.buffer({ label: "self-test results", size: expected.length * 4, kind: "scratch" });
  const buffers = Object.entries(inputs).map(([name, data]) => [name, gpu.upload(`self-test ${name}`, data, "scratch")] as const);
  try {
    const kernel = await gpu.kernel(path, constants);
    gpu.submit([kernel.dispatch({ ...Object.fromEntries(buffers), results }, [1, 1, 1])]);
    const words = new Float32Array(await gpu.read(results));
    return expected.every((value, i) => words[i] === value);
  } catch (error) {
    if (error instanceof Error && error.name === "ShaderError") return false;
    throw error;
  } finally {
    for (const buffer of [results, ...buffers.map(([, buffer]) => buffer)]) gpu.destroyBuffer(buffer);
  }
}

/** The subgroup size, if subgroup sums are right and invocations are numbered in order; undefined also where the shader does not compile. */
export async function probeSubgroups(gpu: GpuContext): Promise<number | undefined> {
  const result = gpu.buffer({ label: "self-test subgroups", size: 16, kind: "scratch" });
  try {
    const kernel = await gpu.kernel("selftest/subgroups.wgsl", {});
    gpu.submit([kernel.dispatch({ result }, [1, 1, 1])]);
    const [sum, size = 0, misplaced] = new Uint32Array(await gpu.read(result));
    return sum === 2080 && size >= 1 && misplaced === 0 ? size : undefined;
  } catch (error) {
    if (error instanceof Error && error.name === "ShaderError") return undefined;
    throw error;
  } finally {
    gpu.destroyBuffer(result);
  }
}
