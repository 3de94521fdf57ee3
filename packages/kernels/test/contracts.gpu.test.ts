/**
 * The contract suites on this machine's adapter, in Deno: as the device is, and, on one of the engines, clamped to the limits that WebGPU promises
 * everywhere, without subgroups and f16, as a phone would run them: compiling all of it once more takes minutes.
 */
import { LEAST_DEVICE } from "@shoal/gpu";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { contracts } from "@shoal/kernels/contracts";

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> | void }[]> {
  const devices = [
    { name: "as it is", gpu: await openDenoGpu({ webgpu }) },
    ...(webgpu === "dawn" ? [{ name: "with default limits", gpu: await openDenoGpu({ webgpu, ...LEAST_DEVICE }) }] : []),
  ];
  const cases = devices.flatMap(({ name, gpu }) =>
    Object.values(contracts).flatMap((suite) => suite.map((item) => ({ name: `${item.name} [${name}]`, run: () => item.run(gpu) }))),
  );
  const close = (): void => {
    for (const { gpu } of devices) gpu.destroy();
  };
  return [...cases, { name: "every context closes", run: close }];
}
