/** Runs contract suites in a worker, on request of the test: `runSuite(op)`. Lists the cases on the page, for a person who opens it with `#op`. */
import type { SuiteResult } from "./protocol.ts";

declare global {
  interface Window {
    runSuite: (op: string) => Promise<SuiteResult>;
  }
}

const worker = new Worker(new URL("./kernels.worker.ts", import.meta.url), { type: "module" });

function runSuite(op: string): Promise<SuiteResult> {
  return new Promise((resolve, reject) => {
    const { port1, port2 } = new MessageChannel();
    port1.addEventListener("message", ({ data }: MessageEvent<SuiteResult>) => {
      port1.close();
      resolve(data);
    });
    port1.start();
    worker.addEventListener("error", (event) => reject(new Error(`the worker failed: ${event.message}`)), { once: true });
    worker.postMessage(op, [port2]);
  });
}

window.runSuite = async (op) => {
  const result = await runSuite(op);
  for (const { name, error, milliseconds } of result.cases) {
    const item = document.createElement("li");
    item.textContent = `${error === undefined ? "ok" : "not ok"} - ${name} (${Math.round(milliseconds)} ms) ${error ?? ""}`;
    document.querySelector("#cases")?.append(item);
  }
  return result;
};

if (location.hash.length > 1) await window.runSuite(location.hash.slice(1));
