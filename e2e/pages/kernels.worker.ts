/**
 * Opens the browser's GPU once and runs the contract suites that it is asked for, one after another: all cases, on a software adapter one in three. Its compiler takes
 * twenty minutes for all of them, and Dawn, which Chromium's WebGPU is, runs them all in Deno.
 */
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { contracts } from "@shoal/kernels/contracts";
import { oneIn } from "@shoal/kernels/testing";
import type { CaseResult, SuiteResult } from "./protocol.ts";

const SOFTWARE_SHARE = 3;

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
    return { chosen: 0, adapter: text(error), cases: [] };
  }
  const { vendor, architecture, device, description } = gpu.adapter;
  const cases: CaseResult[] = [];
  const suite = contracts[op] ?? [];
  const chosen = gpu.adapter.isSoftware ? oneIn(SOFTWARE_SHARE, suite, 0) : suite;
  for (const { name, run } of chosen) {
    const start = performance.now();
    try {
      await run(gpu);
      cases.push({ name, milliseconds: performance.now() - start });
    } catch (error) {
      cases.push({ name, error: text(error), milliseconds: performance.now() - start });
    }
  }
  return { chosen: chosen.length, adapter: [vendor, architecture, device, description].filter((part) => part !== "").join(" "), cases };
}

let last: Promise<unknown> = Promise.resolve();
addEventListener("message", ({ data, ports }: MessageEvent<string>) => {
  last = last.then(async () => ports[0]?.postMessage(await runSuite(data)));
});
