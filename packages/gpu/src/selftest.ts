/** Small programs run once when a device is opened, because no limit or feature says whether a device computes them right. */
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
