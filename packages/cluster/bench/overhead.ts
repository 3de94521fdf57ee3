/**
 * What several devices cost, with the embedded model: `deno run -A packages/cluster/bench/overhead.ts [dawn|wgpu]`. Tokens are compared with the reference's first; then, in one run:
 *
 * - a step of two workers on one adapter against the sum of its parts: the steps of each by itself, in turn, as a pipeline has them, since each finds caches cold that the other has filled;
 * - the throughput of four sequences in flight through two stages against what the slower stage alone allows;
 * - the planner's prediction against the measured step, for two and for four devices, from what one device alone was timed at, with pauses as a pipeline has them: one layer,
 *   several, the whole model, a readback, a message. Each is the median of all rounds, since a layer's time is a difference of two steps', and so is what it makes of their noise.
 *
 * On a software adapter all devices compute on the same processors, and nothing can overlap. So for the last two every device is a process that has one processor for itself (`taskset`, and
 * one thread of llvmpipe's), which is what a GPU is to its process. With fewer processors than devices, some share one, and only wait for each other as stages do that have nothing to do.
 *
 * A GPU does not compute slower because somebody hands its results on. Here whoever coordinates takes the processor from a device that it shares it with, and being woken by what a device
 * says it lands on that device's; so for the throughput it is kept off the slower stage's processor, in the pipeline and alone alike.
 */
import { availableParallelism } from "node:os";
import { PipelineStage, modelCosts } from "@shoal/cluster";
import { type RemoteDevice, openProcessDevice, openWorkerDevice } from "@shoal/cluster/deno";
import type { Batch, SequenceSlot, Stage } from "@shoal/model";
import { Models, readGolden } from "@shoal/model/testing";
import { type TimedLayers, measuredTerms } from "../src/placement/calibrate.ts";
import { CostModel, DEFAULT_WORKLOAD, planCost } from "../src/placement/cost.ts";
import { Links } from "../src/placement/fleet.ts";
import { tellsTokens } from "../src/stage/toldStep.ts";

/** The embedded model, by its place in the repository. */
const TINY = new URL("../../tiny-model/model/", import.meta.url).pathname;
const STEPS = 16;
/** Before those that count. */
const WARM_STEPS = 3;
const ROUNDS = 9;
const OPTIONS = { kvFormat: "f32", contextTokens: 512, kvTokens: 2048, maxTokens: 64, maxOutputs: 8, maxSequences: 4 } as const;
const IN_FLIGHT = 4;
/** A device of a pipeline rests while the others work, and wakes up for its next step with cold caches: what it is timed alone at must have such pauses too. */
const PAUSE_MS = 12;

const webgpu = engineOf(Deno.args[0] ?? "dawn");
const processors = availableParallelism();
const models = new Models(webgpu);
const { config } = await models.checkpoint("tiny");
const golden = await readGolden("tiny-capital.safetensors");
const [ids, expected] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];

function engineOf(name: string): "wgpu" | "dawn" {
  if (name !== "wgpu" && name !== "dawn") throw new RangeError(`Cannot use '${name}', expected wgpu or dawn`);
  return name;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
const ms = (milliseconds: number): string => `${milliseconds.toFixed(2)} ms`;

/** Layers that device `k` of so many has. */
function range(k: number, count: number): { readonly begin: number; readonly end: number } {
  return { begin: Math.round((k * config.nLayers) / count), end: Math.round(((k + 1) * config.nLayers) / count) };
}

/** Does it STEPS times; one step waits for the one before it, and so long after it. @returns milliseconds of each */
async function timed(step: () => Promise<void>, pauseMs = 0): Promise<number> {
  for (let i = 0; i < WARM_STEPS; i++) await step();
  let sum = 0;
  for (let i = 0; i < STEPS; i++) {
    if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs));
    const begin = performance.now();
    await step();
    sum += performance.now() - begin;
  }
  return sum / STEPS;
}

/** A step until its hidden states or its tokens are here, asked for as a pipeline asks its last stage. */
async function toHost(stage: Stage, batch: Batch): Promise<void> {
  if (batch.output === "hidden") return void (await stage.forward(batch));
  if (tellsTokens(stage)) return void (await stage.forwardTold(batch));
  await stage.sampled((await stage.forward(batch)).step, 1);
}

/** Milliseconds of a decoding step of a stage, or of several in turn, from its input to its output, which the host has then. */
async function stepMs(stages: readonly Stage[], pauseMs = 0): Promise<number> {
  const parts = await Promise.all(
    stages.map(async (stage) => {
      const { hasHead, hasEmbedding, layers } = await stage.describe();
      const hidden = hasEmbedding && layers.begin === 0 ? undefined : new Float32Array(config.hiddenSize).fill(0.1);
      const sequence = await stage.open();
      const batch: Batch = { entries: [{ sequence, tokens: [5], ...(hidden && { hidden }) }], output: hasHead ? "sample" : "hidden" };
      return { stage, sequence, batch };
    }),
  );
  const result = await timed(async () => {
    for (const { stage, batch } of parts) await toHost(stage, batch);
  }, pauseMs);
  for (const { stage, sequence } of parts) await stage.close(sequence);
  return result;
}

/**
 * Tokens a second of so many sequences, each of which waits for its own last token only: over STEPS steps, from the tokens of the one before them on.
 * @param begins whether they are asked for when those are there, so that the pipeline has to fill and runs empty in the end; otherwise all is under way, as it is where a stage is timed alone
 */
async function tokensPerSecond(stage: Stage, sequences: number, begins: "empty" | "full"): Promise<number> {
  const slots: SequenceSlot[] = [];
  for (let i = 0; i < sequences; i++) slots.push(await stage.open());
  let last = 0;
  const run = async (steps: number, first: "sampled" | readonly number[]): Promise<void> => {
    for (let i = 0; i < steps; i++) {
      const tokens = i === 0 ? first : "sampled";
      last = (await stage.forward({ entries: slots.map((sequence) => ({ sequence, tokens })), output: "sample" })).step;
    }
  };
  await run(WARM_STEPS, [5]);
  const warm = last;
  if (begins === "full") await run(STEPS, "sampled");
  await stage.sampled(warm, 1);
  const begin = performance.now();
  if (begins === "empty") await run(STEPS, "sampled");
  await stage.sampled(last, 1);
  const rate = (1000 * STEPS * sequences) / (performance.now() - begin);
  for (const slot of slots) await stage.close(slot);
  return rate;
}

/** Tokens a second that a stage makes of as many sequences, in as many micro-batches, when it never waits for anybody: the next micro-batch is there before it is through with one. */
async function mostTokensPerSecond(stage: Stage, sequences: number, groups: number): Promise<number> {
  const { hasHead, hasEmbedding, layers } = await stage.describe();
  const hidden = hasEmbedding && layers.begin === 0 ? undefined : new Float32Array(config.hiddenSize).fill(0.1);
  const slots: SequenceSlot[] = [];
  for (let i = 0; i < sequences; i++) slots.push(await stage.open());
  const steps = Array.from({ length: groups }, (_, group) => async (): Promise<void> => {
    const entries = slots
      .filter((_slot, index) => index % groups === group)
      .map((sequence) => ({ sequence, tokens: [5], ...(hidden && { hidden }) }));
    await toHost(stage, { entries, output: hasHead ? "sample" : "hidden" });
  });
  const each = await Promise.all(steps.map((step) => timed(step)));
  for (const slot of slots) await stage.close(slot);
  return (1000 * sequences) / Math.max(...each);
}

async function verify(stage: Stage): Promise<void> {
  const sequence = await stage.open();
  const { step } = await stage.forward({ entries: [{ sequence, tokens: ids }], output: "sample" });
  for (let i = 1; i < expected.length; i++) await stage.forward({ entries: [{ sequence, tokens: "sampled" }], output: "sample" });
  const tokens = (await stage.sampled(step, expected.length)).flat();
  await stage.close(sequence);
  if (tokens.join() !== expected.join()) throw new Error(`Wrong tokens: ${tokens.join()}, expected ${expected.join()}`);
}

interface Parts {
  readonly devices: readonly RemoteDevice[];
  readonly stages: readonly Stage[];
  readonly pipeline: Stage;
}

/** The model over so many devices; over one it is its stage. */
async function parts(count: number, open: (k: number) => Promise<RemoteDevice>): Promise<Parts> {
  const devices = await Promise.all(Array.from({ length: count }, (_, k) => open(k)));
  const stages: Stage[] = [];
  for (const [k, device] of devices.entries())
    stages.push(await device.loadStage({ location: TINY, options: { ...OPTIONS, layers: range(k, count) } }));
  const pipeline = count === 1 && stages[0] ? stages[0] : await PipelineStage.open(stages);
  await verify(pipeline);
  return { devices, stages, pipeline };
}

const sharing = (k: number): Promise<RemoteDevice> => openWorkerDevice({ webgpu, name: `worker ${k}` });
const bound = (k: number): Promise<RemoteDevice> =>
  openProcessDevice({
    webgpu,
    name: `process ${k}`,
    env: { LP_NUM_THREADS: "1" },
    launcher: ["taskset", "-c", String(k % processors)],
  });

/** Keeps this process, all its threads, off a processor; on those that no device has, if there are any. Undefined: it may have all again. */
async function keepOff(processor?: number, devices = 2): Promise<void> {
  const all = Array.from({ length: processors }, (_, k) => k);
  const free = all.slice(devices);
  const allowed = processor === undefined ? all : free.length > 0 ? free : all.filter((each) => each !== processor);
  const args = ["--all-tasks", "--cpu-list", "--pid", (allowed.length > 0 ? allowed : all).join(), String(Deno.pid)];
  const { success, stderr } = await new Deno.Command("taskset", { args, stdout: "null", stderr: "piped" }).output();
  if (!success) throw new Error(`taskset: ${new TextDecoder().decode(stderr)}`);
}

/** The throughput of two stages with so many sequences in flight, as a share of what the slower one alone makes of them. */
async function sharesInFlight({ stages, pipeline }: Parts): Promise<{ readonly full: number; readonly empty: number }> {
  let [most, slower] = [Number.POSITIVE_INFINITY, 0];
  for (const [k, stage] of stages.entries()) {
    await keepOff(k % processors);
    const alone = await mostTokensPerSecond(stage, IN_FLIGHT, stages.length);
    if (alone < most) [most, slower] = [alone, k];
  }
  await keepOff(slower % processors);
  const full = (await tokensPerSecond(pipeline, IN_FLIGHT, "full")) / most;
  const empty = (await tokensPerSecond(pipeline, IN_FLIGHT, "empty")) / most;
  await keepOff();
  return { full, empty };
}

function close({ devices }: Parts): void {
  for (const device of devices) device.close();
}

type Times = Awaited<ReturnType<RemoteDevice["measure"]>>;

/** Milliseconds of a step that the planner predicts for `count` devices like the one that was timed. */
function predictedMs(count: number, few: TimedLayers, more: TimedLayers, whole: TimedLayers, { readbackMs, roundTripMs }: Times): number {
  const [readbackSeconds, roundTripSeconds] = [readbackMs / 1000, roundTripMs / 1000];
  const work = { ...DEFAULT_WORKLOAD, contextTokens: OPTIONS.contextTokens, kvTokens: OPTIONS.kvTokens };
  const model = modelCosts(config, "f32");
  const terms = measuredTerms(model, work, { few, more, whole, readbackSeconds, roundTripSeconds });
  const stages = Array.from({ length: count }, (_, k) => ({
    device: { name: `process ${k}`, memoryBytes: 1e12, flopsPerSecond: 1e18, ...terms },
    helpers: [],
    ...range(k, count),
  }));
  // A message goes from one device to the next by itself, which is half a round trip; the step's call comes from this side, and its token goes there, for which the next call waits.
  const messages = count + 1;
  const links = new Links({ links: [], defaultLink: { latencySeconds: ((messages / 2) * roundTripSeconds) / count, bytesPerSecond: 1e9 } });
  return (planCost(new CostModel(model, links, work), stages)?.decodeSeconds ?? Number.NaN) * 1000;
}

console.log(
  `${webgpu}, ${processors} processors; medians of ${ROUNDS} rounds of ${STEPS} steps, what is compared one after the other in each round`,
);

const pair = await parts(2, sharing);
const beyond: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const sum = await stepMs(pair.stages);
  beyond.push((await stepMs([pair.pipeline])) / sum - 1);
}
close(pair);
console.log(
  `two workers on one adapter: a step takes ${percent(median(beyond))} more than those of its stages in turn (wanted: at most 15 %)`,
);

const one = await parts(1, bound);
const [alone] = one.devices;
if (!alone) throw new RangeError("There is no device");
const times = await alone.measure();
interface Timed {
  readonly begin: number;
  readonly end: number;
  readonly stage: Stage;
}
const timedLayers = async (begin: number, end: number): Promise<Timed> => ({
  begin,
  end,
  stage: await alone.loadStage({ location: TINY, options: { ...OPTIONS, layers: { begin, end } } }),
});
// Layers of one kind, without embedding and head; then all.
const layers: readonly Timed[] = [
  await timedLayers(config.nDenseLayers, config.nDenseLayers + 1),
  await timedLayers(config.nDenseLayers, config.nLayers - 1),
  { begin: 0, end: config.nLayers, stage: one.pipeline },
];
for (const count of [2, 4]) {
  const fleet = await parts(count, bound);
  const timedMs: readonly number[][] = layers.map(() => []);
  const steps: number[] = [];
  const flights: Awaited<ReturnType<typeof sharesInFlight>>[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, { stage }] of layers.entries()) timedMs[index]?.push(await stepMs([stage], PAUSE_MS));
    steps.push(await stepMs([fleet.pipeline]));
    if (count === 2) flights.push(await sharesInFlight(fleet));
  }
  const [few, more, whole] = layers.map(({ begin, end }, index) => ({ begin, end, seconds: median(timedMs[index] ?? []) / 1000 }));
  if (!few || !more || !whole) throw new RangeError("Nothing was timed");
  const [step, predicted] = [median(steps), predictedMs(count, few, more, whole, times)];
  const off = predicted / step - 1;
  console.log(
    `${count} devices, a processor each: a step measured ${ms(step)}, predicted ${ms(predicted)} ` +
      `(${off > 0 ? "+" : ""}${percent(off)}; wanted: within 15 %); one device ${ms(whole.seconds * 1000)}`,
  );
  if (count === 2)
    console.log(
      `  ${IN_FLIGHT} sequences in flight reach ${percent(median(flights.map(({ full }) => full)))} of what the slower stage alone makes of them (wanted: at least 85 %); ` +
        `${percent(median(flights.map(({ empty }) => empty)))} where ${STEPS} steps begin and end with an empty pipeline`,
    );
  close(fleet);
}
console.log(`one device: readback ${ms(times.readbackMs)}, a message and its answer ${ms(times.roundTripMs)}`);
close(one);
await models.closing().run();
Deno.exit(0);
