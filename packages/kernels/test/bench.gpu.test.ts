/** That the bench's cases are right and measured; not how fast they are. */
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { benchKernels } from "@shoal/kernels/bench";

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> }[]> {
  const gpu = await openDenoGpu({ webgpu });
  return [
    {
      name: "benchKernels() verifies and times every hot kernel",
      run: async () => {
        const results = await benchKernels(gpu, { size: "small" });
        for (const { op, name, ms, bytes, gbPerS, shareOfCopy } of results)
          if (![ms, bytes, gbPerS, shareOfCopy].every((value) => Number.isFinite(value) && value > 0))
            throw new Error(`${op} (${name}) has no measure: ${JSON.stringify({ ms, bytes, gbPerS, shareOfCopy })}`);
        const ops = new Set(results.map(({ op }) => op));
        const wanted = ["copy", "read", "matvec", "matmul", "expertsGateUpFew", "expertsDownMany", "mlaAttention", "sample"];
        for (const op of wanted) if (!ops.has(op)) throw new Error(`there is no result for ${op}`);
      },
    },
    {
      name: "benchKernels() stops when its signal is aborted",
      run: async () => {
        const stop = new AbortController();
        const done = benchKernels(gpu, { size: "small", ops: ["read"], onResult: () => stop.abort(), signal: stop.signal });
        const outcome = await done.then(
          () => "finished",
          (error: unknown) => (error instanceof Error ? error.name : ""),
        );
        if (outcome !== "AbortError") throw new Error(`it ended with '${outcome}', expected AbortError`);
        gpu.destroy();
      },
    },
  ];
}
