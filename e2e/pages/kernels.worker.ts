/**
 * Opens the browser's GPU once and runs the contract suites that it is asked for, one after another: all cases, on a software adapter one in three. SwiftShader's
 * compiler takes ten minutes for all of them; in Deno wgpu runs them all as the device is, and Dawn, which Chromium's WebGPU is too, with default limits.
 */
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { contracts } from "@shoal/kernels/contracts";
import { oneIn } from "@shoal/kernels/testing";
import type { CaseResult, SuiteResult } from "./protocol.ts";

const opened: Promise<GpuContext> = openBrowserGpu();
// Whoever asks for a suite awaits it and gets the reason.
opened.catch(() => {});

function text(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

async function runSuite(op: string): Promise<SuiteResult> {
  let gpu: GpuContext;
  try {
    gpu = await opened;
  } catch (error) {
    return { every: 1, adapter: text(error), cases: [] };
  }
  const { vendor, architecture, device, description } = gpu.adapter;
  const cases: CaseResult[] = [];
  const every = gpu.adapter.isSoftware ? 3 : 1;
  for (const { name, run } of oneIn(every, contracts[op] ?? [], 0)) {
    const start = performance.now();
    try {
      await run(gpu);
      cases.push({ name, milliseconds: performance.now() - start });
    } catch (error) {
      cases.push({ name, error: text(error), milliseconds: performance.now() - start });
    }
  }
  return { every, adapter: [vendor, architecture, device, description].filter((part) => part !== "").join(" "), cases };
}

let last: Promise<unknown> = Promise.resolve();
addEventListener("message", ({ data, ports }: MessageEvent<string>) => {
  last = last.then(async () => ports[0]?.postMessage(await runSuite(data)));
});
