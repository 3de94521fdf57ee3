/** That a device opened as the least there may be has WebGPU's default limits, all of them, and no optional feature: otherwise tests with it prove nothing. */
import assert from "node:assert/strict";
import process from "node:process";
import { LEAST_DEVICE } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";

/** https://www.w3.org/TR/webgpu/#limits, those that compute meets. */
const DEFAULTS = {
  maxBindGroups: 4,
  maxBindingsPerBindGroup: 1000,
  maxStorageBuffersPerShaderStage: 8,
  maxUniformBuffersPerShaderStage: 12,
  maxUniformBufferBindingSize: 64 * 1024,
  maxStorageBufferBindingSize: 128 * 2 ** 20,
  maxBufferSize: 256 * 2 ** 20,
  minStorageBufferOffsetAlignment: 256,
  minUniformBufferOffsetAlignment: 256,
  maxComputeWorkgroupStorageSize: 16 * 1024,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupSizeY: 256,
  maxComputeWorkgroupSizeZ: 64,
  maxComputeWorkgroupsPerDimension: 65_535,
} as const;
/** Not a feature that anything could use. */
const HARMLESS = new Set(["core-features-and-limits"]);

export function tests(webgpu: DenoEngine): readonly { name: string; run: () => Promise<void> }[] {
  return [
    { name: "LEAST_DEVICE has the default limits and no features", run: () => isLeast(() => openDenoGpu({ webgpu, ...LEAST_DEVICE })) },
    {
      name: "SHOAL_LIMITS=default opens the least device, what is asked for wins, and other values are refused",
      run: () => followsEnvironment(webgpu),
    },
  ];
}

async function isLeast(open: () => ReturnType<typeof openDenoGpu>): Promise<void> {
  const gpu = await open();
  try {
    for (const [name, value] of Object.entries(DEFAULTS)) assert.equal(gpu.limits[name as keyof typeof DEFAULTS], value, name);
    assert.deepEqual(
      [...gpu.device.features].filter((feature) => !HARMLESS.has(feature)),
      [],
    );
    const { subgroups, subgroupSize, f16, timestampQuery, subgroupMatrix } = gpu.dialect;
    assert.deepEqual(
      { subgroups, subgroupSize, f16, timestampQuery },
      { subgroups: "none", subgroupSize: 0, f16: false, timestampQuery: false },
    );
    assert.equal(subgroupMatrix, undefined);
  } finally {
    gpu.destroy();
  }
}

async function followsEnvironment(webgpu: DenoEngine): Promise<void> {
  const before = process.env["SHOAL_LIMITS"];
  try {
    process.env["SHOAL_LIMITS"] = "default";
    await isLeast(() => openDenoGpu({ webgpu }));
    const gpu = await openDenoGpu({ webgpu, limits: "highest" });
    assert.ok(gpu.limits.maxBufferSize > DEFAULTS.maxBufferSize);
    gpu.destroy();
    process.env["SHOAL_LIMITS"] = "smallest";
    await assert.rejects(openDenoGpu({ webgpu }), /SHOAL_LIMITS='smallest', expected 'default' or 'highest'/);
  } finally {
    if (before === undefined) delete process.env["SHOAL_LIMITS"];
    else process.env["SHOAL_LIMITS"] = before;
  }
}
