/** What goes wrong on a device reaches the caller as a typed error, whether a scope was open or not, and is never swallowed. */
import assert from "node:assert/strict";
import { type GpuContext, GpuError, ShaderError } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";

export function tests(webgpu: DenoEngine): readonly { name: string; run: () => Promise<void> }[] {
  const on = (name: string, run: (gpu: GpuContext) => Promise<void>): { name: string; run: () => Promise<void> } => ({
    name,
    run: async () => {
      const gpu = await openDenoGpu({ webgpu });
      try {
        await run(gpu);
      } finally {
        gpu.destroy();
      }
    },
  });
  return [
    on("scoped() throws GpuValidationError when the work makes one", async (gpu) => {
      const work = gpu.scoped("make a bad buffer", () =>
        gpu.device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE }),
      );
      await assert.rejects(
        work,
        (error) => error instanceof GpuError && error.name === "GpuValidationError" && /make a bad buffer/.test(error.message),
      );
      // The context goes on.
      await gpu.scoped("make a good one", () => gpu.buffer({ label: "good", size: 16, kind: "scratch" }));
    }),
    on("read() throws what no scope caught before it", async (gpu) => {
      const buffer = gpu.buffer({ label: "small", size: 16, kind: "scratch" });
      // Past the end.
      gpu.submit([{ copy: { from: buffer, fromOffset: 0, to: buffer, toOffset: 1024, size: 16 } }]);
      await assert.rejects(
        gpu.read(buffer).then(() => gpu.idle()),
        (error) => error instanceof GpuError && error.name === "GpuValidationError",
      );
    }),
    on("kernel() throws ShaderError naming the shader when a constant makes it wrong", async (gpu) => {
      await assert.rejects(
        gpu.kernel("selftest/fp8.wgsl", { FP8_DECODE: "unpack", FP8_FACTOR: 1 }),
        (error) => error instanceof ShaderError && error.shader === "selftest/fp8.wgsl",
      );
    }),
    on("buffer() throws AdapterLimitError with both numbers when it is larger than the device allows", async (gpu) => {
      assert.throws(
        () => gpu.buffer({ label: "huge", size: gpu.limits.maxBufferSize + 16, kind: "scratch" }),
        (error) =>
          error instanceof GpuError && error.name === "AdapterLimitError" && error.message.includes(String(gpu.limits.maxBufferSize)),
      );
    }),
    on("dispatch() throws BindingError for a missing and for an unknown buffer", async (gpu) => {
      const kernel = await gpu.kernel("selftest/fp8.wgsl", { FP8_DECODE: "unpack" });
      const codes = gpu.buffer({ label: "codes", size: 256, kind: "scratch" });
      assert.throws(() => kernel.dispatch({ codes }, [1, 1, 1]), /no buffer for 'values'/);
      assert.throws(() => kernel.dispatch({ codes, values: codes, other: codes }, [1, 1, 1]), /Cannot bind 'other'/);
    }),
    on("everything throws DeviceLostError when the device has gone", async (gpu) => {
      const buffer = gpu.buffer({ label: "kept", size: 16, kind: "scratch" });
      gpu.device.destroy();
      const lost = await gpu.lost;
      assert.equal(lost.name, "DeviceLostError");
      assert.throws(() => gpu.check(), /the GPU device was lost/);
      assert.throws(() => gpu.submit([]), /the GPU device was lost/);
      await assert.rejects(gpu.read(buffer), /the GPU device was lost/);
      await assert.rejects(
        gpu.scoped("work on", () => 1),
        /the GPU device was lost/,
      );
    }),
    on("memory counts every buffer, and nothing of what was destroyed", async (gpu) => {
      const before = gpu.memory.total();
      const buffer = gpu.buffer({ label: "counted", size: 1000, kind: "scratch" });
      assert.equal(gpu.memory.total() - before, 1008);
      gpu.destroyBuffer(buffer);
      gpu.destroyBuffer(buffer);
      assert.equal(gpu.memory.total(), before);
    }),
  ];
}
