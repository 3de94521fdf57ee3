/**
 * The contract suites on this machine's adapter, in Deno: as the device is, and clamped to the limits that WebGPU promises everywhere, without subgroups
 * and f16, as a phone would run them. A software adapter takes minutes to compile them once: there wgpu runs them as the device is, Dawn clamped, and
 * Chromium, which is Dawn too, a share of them as the device is (e2e).
 */
import { type GpuContext, LEAST_DEVICE } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { contracts } from "@shoal/kernels/contracts";

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> | void }[]> {
  const full = await openDenoGpu({ webgpu });
  const least = await openDenoGpu({ webgpu, ...LEAST_DEVICE });
  const both = [
    { name: "as it is", gpu: full, engine: "wgpu" },
    { name: "with default limits", gpu: least, engine: "dawn" },
  ] as const;
  const devices = both.filter(({ engine }) => !full.adapter.isSoftware || webgpu === engine);
  const cases = devices.flatMap(({ name, gpu }: { readonly name: string; readonly gpu: GpuContext }) =>
    Object.values(contracts).flatMap((suite) => suite.map((item) => ({ name: `${item.name} [${name}]`, run: () => item.run(gpu) }))),
  );
  const close = (): void => {
    for (const { gpu } of both) gpu.destroy();
  };
  return [...cases, { name: "every context closes", run: close }];
}
