/**
 * A device that checks shaders and runs nothing: Dawn's null backend, which lists every feature. What takes subgroup matrices can be checked there where no adapter has them. Drivers may
 * still refuse what it takes, and its limits are the least that there may be.
 */
import { shaderSources } from "@shoal/shaders";
import { create } from "webgpu";
import { GpuContext } from "./context.ts";
import { DawnWaits } from "./dawnWait.deno.ts";
import type { Dialect } from "./dialect.ts";
import { NoAdapterError } from "./errors.ts";

const DIALECT: Dialect = {
  engine: "dawn",
  subgroups: "directive",
  subgroupSize: 32,
  f16: true,
  timestampQuery: false,
  fp8Decode: "unpack",
  subgroupMatrix: { m: 16, n: 16, k: 16, precise: false },
};

/** For tests. @throws NoAdapterError */
export async function openNullGpu(): Promise<GpuContext> {
  const { wait } = new DawnWaits();
  const gpu = create(["backend=null", "enable-dawn-features=allow_unsafe_apis"]);
  const adapter = await wait(gpu.requestAdapter());
  if (!adapter) throw new NoAdapterError("dawn", "the addon 'webgpu' has no null backend");
  const requiredFeatures = ["shader-f16", "subgroups", "chromium-experimental-subgroup-matrix"] as GPUFeatureName[];
  const device = await wait(adapter.requestDevice({ requiredFeatures }));
  const description = { vendor: "", architecture: "", device: "", description: "null", isSoftware: false };
  return new GpuContext({
    device,
    adapter: description,
    dialect: DIALECT,
    sources: shaderSources(),
    wait,
    owner: [gpu, adapter],
  });
}
