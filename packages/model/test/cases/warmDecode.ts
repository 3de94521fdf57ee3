/**
 * What a decode step costs once the first ones are done: one submit, one pass, at most 13 dispatches a MoE layer, and nothing new on the device. Counted on the device
 * itself, by wrapping the encoder, as well as by the context's own counts.
 */
import type { GpuContext } from "@shoal/gpu";
import type { SamplingParameters, StepOutput } from "@shoal/model";
import { check, report } from "../support/compare.ts";
import { layerDispatches, withSequence } from "../support/drive.ts";
import type { GpuTest, Models } from "../support/models.ts";

const WARM_UP_STEPS = 3;
const STEPS = 40;
const MOE_LAYER_DISPATCHES = 13;
const PROMPT = [0, 3, 200, 300, 400, 500, 4];

const SAMPLERS: readonly { readonly name: string; readonly parameters: SamplingParameters }[] = [
  { name: "greedy", parameters: { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n } },
  { name: "sampling", parameters: { temperature: 0.8, topP: 0.9, topK: 40, minP: 0.01, seed: 7n } },
];

export function warmDecode(models: Models): readonly GpuTest[] {
  const steps = SAMPLERS.map(({ name, parameters }) => ({
    name: `a warm decode step (${name}) is one submit of one pass and creates no bind group, buffer or pipeline`,
    run: async () => {
      const on = await models.tiny("w8a32");
      await withSequence(on, async (sequence) => {
        await on.setSampling(sequence, parameters);
        const step = (): Promise<StepOutput> => on.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
        let { step: last } = await on.forward({ entries: [{ sequence, tokens: PROMPT }], output: "sample" });
        for (let i = 0; i < WARM_UP_STEPS; i++) await step();
        const before = on.gpu.counts;
        const counted = await countEncoding(on.gpu, async () => {
          for (let i = 0; i < STEPS; i++) last = (await step()).step;
        });
        const after = on.gpu.counts;
        report(`${counted.dispatches / STEPS} dispatches a step`);
        check(after.buffers === before.buffers, `${after.buffers - before.buffers} buffers were created`);
        check(after.bindGroups === before.bindGroups, `${after.bindGroups - before.bindGroups} bind groups were created`);
        check(after.pipelines === before.pipelines, `${after.pipelines - before.pipelines} pipelines were created`);
        check(after.submits - before.submits === STEPS, `${after.submits - before.submits} submits for ${STEPS} steps`);
        check(counted.passes === STEPS, `${counted.passes} passes for ${STEPS} steps`);
        check(counted.encoders === STEPS, `${counted.encoders} command encoders for ${STEPS} steps`);
        // Reading a batch of tokens back is one submit more, and creates nothing either.
        await on.sampled(last - STEPS + 1, STEPS);
        check(on.gpu.counts.buffers === before.buffers, "reading tokens back created a buffer");
      });
    },
  }));
  const layer = {
    name: `a MoE layer of a decode step is at most ${MOE_LAYER_DISPATCHES} dispatches`,
    run: async () => {
      const on = await models.stage("tiny", { contextTokens: 2048, maxTokens: 4, layers: { begin: 2, end: 3 } });
      const count = (await layerDispatches(on)).length;
      const exact = await models.stage("tiny", { mode: "w8a8", contextTokens: 2048, maxTokens: 4, layers: { begin: 2, end: 3 } });
      report(`${count} in w8a32, ${(await layerDispatches(exact)).length} in w8a8`);
      check(count <= MOE_LAYER_DISPATCHES, `${count} dispatches`);
    },
  };
  return [...steps, layer];
}

interface EncodingCounts {
  encoders: number;
  passes: number;
  dispatches: number;
}

/** Counts what is encoded while `work` runs. */
async function countEncoding({ device }: GpuContext, work: () => Promise<void>): Promise<EncodingCounts> {
  const counts: EncodingCounts = { encoders: 0, passes: 0, dispatches: 0 };
  const create = device.createCommandEncoder.bind(device);
  device.createCommandEncoder = (descriptor) => {
    counts.encoders++;
    const encoder = create(descriptor);
    const begin = encoder.beginComputePass.bind(encoder);
    encoder.beginComputePass = (pass) => {
      counts.passes++;
      const made = begin(pass);
      const dispatch = made.dispatchWorkgroups.bind(made);
      made.dispatchWorkgroups = (...grid) => {
        counts.dispatches++;
        dispatch(...grid);
      };
      return made;
    };
    return encoder;
  };
  try {
    await work();
    return counts;
  } finally {
    device.createCommandEncoder = create;
  }
}
