/**
 * What several workers on one adapter cost, with the embedded model: `deno run -A packages/cluster/bench/overhead.ts [wgpu|dawn]`. First tokens are compared with one device's; then, in
 * one run, a step of two stages against the sum of the steps of each, the throughput of four sequences in flight against what the slower stage alone allows, and the planner's
 * prediction, from one device's step, against the step of two and of four workers.
 */
import { availableParallelism } from "node:os";
import { PipelineStage, modelCosts } from "@shoal/cluster";
import { type RemoteDevice, openWorkerDevice } from "@shoal/cluster/deno";
import type { SequenceSlot, Stage } from "@shoal/model";
import { Models, readGolden } from "@shoal/model/testing";
import { CostModel, DEFAULT_WORKLOAD, planCost } from "../src/placement/cost.ts";
import { type Device, Links } from "../src/placement/fleet.ts";

/** The embedded model, by its place in the repository. */
const TINY = new URL("../../tiny-model/model/", import.meta.url).pathname;
const STEPS = 12;
const ROUNDS = 5;
const OPTIONS = { kvFormat: "f32", contextTokens: 512, kvTokens: 2048, maxTokens: 64, maxOutputs: 8, maxSequences: 4 } as const;

const [webgpu = "dawn"] = Deno.args;
if (webgpu !== "wgpu" && webgpu !== "dawn") throw new RangeError(`Cannot use '${webgpu}', expected wgpu or dawn`);
const models = new Models(webgpu);
const { config } = await models.checkpoint("tiny");
const golden = await readGolden("tiny-capital.safetensors");
const [ids, expected] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** Milliseconds of a step that decodes for so many sequences; each step waits for the one before it. */
async function stepMs(stage: Stage, sequences: number): Promise<number> {
  const { hasHead, hasEmbedding, layers } = await stage.describe();
  const hidden = hasEmbedding && layers.begin === 0 ? undefined : new Float32Array(config.hiddenSize).fill(0.1);
  const slots: SequenceSlot[] = [];
  for (let i = 0; i < sequences; i++) slots.push(await stage.open());
  const step = async (): Promise<void> => {
    const { step: number } = await stage.forward({
      entries: slots.map((sequence) => ({ sequence, tokens: [5], ...(hidden && { hidden }) })),
      output: hasHead ? "sample" : "hidden",
    });
    if (hasHead) await stage.sampled(number, 1);
  };
  for (let i = 0; i < 4; i++) await step();
  const begin = performance.now();
  for (let i = 0; i < STEPS; i++) await step();
  const ms = (performance.now() - begin) / STEPS;
  for (const slot of slots) await stage.close(slot);
  return ms;
}

/** Tokens a second of so many sequences, each of which waits for its own last token only. */
async function tokensPerSecond(stage: Stage, sequences: number): Promise<number> {
  const slots: SequenceSlot[] = [];
  for (let i = 0; i < sequences; i++) slots.push(await stage.open());
  const begin = performance.now();
  let last = 0;
  for (let i = 0; i < STEPS; i++) {
    const entries = slots.map((sequence) => ({ sequence, tokens: i === 0 ? [5] : ("sampled" as const) }));
    last = (await stage.forward({ entries, output: "sample" })).step;
  }
  await stage.sampled(last, 1);
  const rate = (1000 * STEPS * sequences) / (performance.now() - begin);
  for (const slot of slots) await stage.close(slot);
  return rate;
}

async function verify(stage: Stage): Promise<void> {
  const sequence = await stage.open();
  const { step } = await stage.forward({ entries: [{ sequence, tokens: ids }], output: "sample" });
  for (let i = 1; i < expected.length; i++) await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
  const tokens = (await stage.sampled(step, expected.length)).flat();
  await stage.close(sequence);
  if (tokens.join() !== expected.join()) throw new Error(`Wrong tokens: ${tokens.join()}, expected ${expected.join()}`);
}

async function parts(count: number): Promise<{ readonly stages: readonly Stage[]; readonly devices: readonly RemoteDevice[] }> {
  const devices: RemoteDevice[] = [];
  const stages: Stage[] = [];
  for (let k = 0; k < count; k++) {
    const device = await openWorkerDevice({ webgpu: webgpu === "wgpu" ? "wgpu" : "dawn", name: `worker ${k}` });
    stages.push(await device.loadStage({ location: TINY, options: { ...OPTIONS, layers: range(k, count) } }));
    devices.push(device);
  }
  return { stages, devices };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
console.log(
  `${webgpu}, ${availableParallelism()} CPUs; medians of ${ROUNDS} rounds of ${STEPS} steps, what is compared one after the other in each round`,
);

const alone = await models.stage("tiny", OPTIONS);
await verify(alone);

/** Layers that worker `k` of so many has. */
const range = (k: number, count: number): { readonly begin: number; readonly end: number } => ({
  begin: Math.round((k * config.nLayers) / count),
  end: Math.round(((k + 1) * config.nLayers) / count),
});

/** Seconds of a step that the planner predicts where every worker is the device whose step takes so long alone: all of that is its layers'. */
function predictedMs(count: number, aloneMs: number): number {
  const stages = Array.from({ length: count }, (_, k) => ({
    device: {
      name: `worker ${k}`,
      memoryBytes: 1e12,
      bytesPerSecond: 1e15,
      flopsPerSecond: 1e18,
      layerSeconds: aloneMs / 1000 / config.nLayers,
      readbackSeconds: 0,
    } satisfies Device,
    helpers: [],
    ...range(k, count),
  }));
  const links = new Links({ links: [], defaultLink: { latencySeconds: 0.0002, bytesPerSecond: 1e9 } });
  return (planCost(new CostModel(modelCosts(config, "f32"), links, DEFAULT_WORKLOAD), stages)?.decodeSeconds ?? Number.NaN) * 1000;
}

for (const count of [2, 4]) {
  const { stages, devices } = await parts(count);
  const pipeline = await PipelineStage.open(stages);
  await verify(pipeline);
  const measured: { alone: number; step: number; beyond: number; flight: number }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const [aloneMs, step] = [await stepMs(alone, 1), await stepMs(pipeline, 1)];
    let [sum, slowest, rate] = [Number.NaN, Number.NaN, Number.NaN];
    if (count === 2) {
      [sum, slowest] = [0, 0];
      for (const stage of stages) {
        sum += await stepMs(stage, 1);
        slowest = Math.max(slowest, await stepMs(stage, 2));
      }
      rate = await tokensPerSecond(pipeline, 4);
    }
    measured.push({ alone: aloneMs, step, beyond: step / sum - 1, flight: (rate * slowest) / 2000 });
  }
  const middle = (of: (each: (typeof measured)[number]) => number): number => median(measured.map(of));
  const said = predictedMs(
    count,
    middle(({ alone: ms }) => ms),
  );
  console.log(
    `${count} workers: ${middle(({ step }) => step).toFixed(1)} ms a step, the planner says ${said.toFixed(1)} ms; one device ${middle(({ alone: ms }) => ms).toFixed(1)} ms`,
  );
  if (count === 2) {
    console.log(
      `  a step takes ${percent(middle(({ beyond }) => beyond))} more than its stages alone, one after the other (wanted: at most 15 %)`,
    );
    console.log(
      `  4 sequences in flight reach ${percent(middle(({ flight }) => flight))} of what the slower stage alone allows (wanted: at least 85 %)`,
    );
  }
  for (const each of devices) each.close();
}
await models.closing().run();
Deno.exit(0);
