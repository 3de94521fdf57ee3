/** WebGPU in a browser, on the page or in a worker. */
import { shaderSources } from "@shoal/shaders";
import type { GpuContext } from "./context.ts";
import { NoAdapterError } from "./errors.ts";
import { type OpenOptions, openDevice } from "./open.ts";

export async function openBrowserGpu(options: OpenOptions = {}): Promise<GpuContext> {
  const gpu: GPU | undefined = navigator.gpu;
  if (gpu === undefined)
    throw new NoAdapterError("the browser", "this browser has no WebGPU, or the page is not served over https or localhost");
  return openDevice(
    { engine: "browser", gpu, subgroupsDirective: true, hint: "WebGPU is there but found no GPU" },
    shaderSources(),
    options,
  );
}
