/** The router against the golden choices of an independent float64 implementation (packages/model/test/fixtures/README.md, `router671.*`). */
import { readFileSync } from "node:fs";
import { type DenoEngine, openDenoGpu } from "@shoal/gpu/deno";
import { type RouterSpec, router } from "@shoal/kernels";
import { assertClose, assertEqual, uploadBatch, withBuffers } from "@shoal/kernels/testing";

const FIXTURE = new URL("../../model/test/fixtures/ops.safetensors", import.meta.url);
const TOKENS = 24;
const SPEC: RouterSpec = {
  nRoutedExperts: 256,
  nActivatedExperts: 8,
  nExpertGroups: 8,
  topkGroup: 4,
  scoreFunc: "sigmoid",
  groupScore: "top2sum",
  normTopkProb: true,
  routedScalingFactor: 2.5,
  sharedSlots: 0,
};

/** Bytes of a tensor of the fixture, by name. */
function fixture(): (name: string) => ArrayBuffer {
  const file = readFileSync(FIXTURE);
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(file.toString("utf8", 8, start));
  return (name) => {
    const entry = header[name];
    if (!entry) throw new Error(`Cannot read '${name}': the fixture does not have it`);
    const [from, to] = entry.data_offsets;
    return new Uint8Array(file.subarray(start + from, start + to)).buffer;
  };
}

export async function tests(webgpu: DenoEngine): Promise<readonly { name: string; run: () => Promise<void> | void }[]> {
  const gpu = await openDenoGpu({ webgpu });
  const tensor = fixture();
  const cases = ["bias", "zero_bias", "negative_bias", "tied_bias"].map((name) => ({
    name: `router() makes the golden choices with ${name}`,
    run: () =>
      withBuffers(gpu, async (keep) => {
        const zeros = Array.from({ length: TOKENS }, () => 0);
        const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, TOKENS);
        keep(step.batch);
        const routing = keep(gpu.buffer({ label: "routing", size: TOKENS * 8 * 8, kind: "activations" }));
        const dispatches = await router(gpu, {
          logits: keep(gpu.upload("logits", new Float32Array(tensor("router671.logits")), "activations")),
          logitsStride: 256,
          bias: keep(gpu.upload("bias", new Float32Array(tensor(`router671.${name}.bias`)), "weights")),
          routing,
          spec: SPEC,
          tokens: TOKENS,
          step,
        });
        gpu.submit(dispatches);
        const bytes = await gpu.read(routing);
        const experts = new Uint32Array(bytes).filter((_, i) => i % 2 === 0);
        const weights = new Float32Array(bytes).filter((_, i) => i % 2 === 1);
        const goldenExperts = new Int32Array(tensor(`router671.${name}.topk_idx`));
        const goldenWeights = new Float32Array(tensor(`router671.${name}.topk_weight`));
        const safe = new Uint8Array(tensor(`router671.${name}.safe`));
        for (const t of safe.keys()) {
          if (safe[t] !== 1) continue;
          const row = [t * 8, t * 8 + 8] as const;
          assertEqual(experts.subarray(...row), goldenExperts.subarray(...row), `experts of row ${t}`);
          assertClose(weights.subarray(...row), goldenWeights.subarray(...row), { abs: 0, rel: 5e-6 }, `weights of row ${t}`);
        }
        if (!safe.includes(1)) throw new Error("Cannot compare: no row is safe");
      }),
  }));
  return [...cases, { name: "the context closes", run: () => gpu.destroy() }];
}
