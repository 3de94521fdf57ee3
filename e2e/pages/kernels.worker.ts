/** Opens the browser's GPU once and runs the contract suites that it is asked for, one after another. */
import type { GpuContext } from "@shoal/gpu";
import { openBrowserGpu } from "@shoal/gpu/browser";
import { contracts } from "@shoal/kernels/contracts";
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
    return { adapter: text(error), cases: [] };
  }
  const { vendor, architecture, device, description } = gpu.adapter;
  const cases: CaseResult[] = [];
  for (const { name, run } of contracts[op] ?? []) {
    const start = performance.now();
    try {
      await run(gpu);
      cases.push({ name, milliseconds: performance.now() - start });
    } catch (error) {
      cases.push({ name, error: text(error), milliseconds: performance.now() - start });
    }
  }
  return { adapter: [vendor, architecture, device, description].filter((part) => part !== "").join(" "), cases };
}

let last: Promise<unknown> = Promise.resolve();
addEventListener("message", ({ data, ports }: MessageEvent<string>) => {
  last = last.then(async () => ports[0]?.postMessage(await runSuite(data)));
});
