/** An engine over several stages and shards that are killed while it answers: the answers are those of one device, and nothing is left behind. SHOAL_LONG=1 kills at 50 points. */
import process from "node:process";
import { PipelineStage, ShardedExperts, memoryChannel, remoteShard, remoteStage, serveShard, serveStage } from "@shoal/cluster";
import { type RemoteDevice, openProcessDevice, openWorkerDevice } from "@shoal/cluster/deno";
import { Engine, type EngineRequest, GREEDY } from "@shoal/engine";
import {
  type Batch,
  type LocalStage,
  type LocalStageOptions,
  type Stage,
  type StepOutput,
  isLoss,
  loadLocalExpertShard,
  loadLocalStage,
} from "@shoal/model";
import { type DenoEngine, FIXTURES, type GpuTest, Models, check, readGolden, report } from "@shoal/model/testing";
import { fileURLToPath } from "node:url";
import { tinyModelUrl } from "@shoal/tiny-model";

const MODEL = "ragged-v3-fp8";
const OPTIONS = {
  kvFormat: "f32",
  contextTokens: 128,
  kvTokens: 512,
  maxTokens: 64,
  maxOutputs: 8,
  maxSequences: 4,
} as const satisfies LocalStageOptions;
const LONG = process.env["SHOAL_LONG"] === "1";
const KILLS = LONG ? 50 : 4;
/** Of devices in workers and processes, which take a second to be there again. */
const DEVICE_KILLS = LONG ? 50 : 1;
const TOKENS = 24;
/** An engine gives up after so many losses in a row without a token between them; a test that kills faster than any machine computes must spare it. */
const KILLS_WITHOUT_TOKEN = 2;
/** Rows that a loss may cost, by those of the three answers alone: all of prompts and answers so far once more, and what had been submitted ahead of the reader, which differs. */
const MOST_AGAIN = 1.3;
/** Far above what any machine takes from a kill to the next token: what takes longer hangs. */
const HANG_MS = 120_000;

/** Repeats itself. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function requests(ids: readonly number[]): readonly EngineRequest[] {
  return [0, 10, 20].map((begin) => ({
    promptIds: ids.slice(begin, begin + 40),
    maxNewTokens: TOKENS,
    sampling: GREEDY,
    stopTokenIds: [],
  }));
}

async function answers(engine: Engine, asked: readonly EngineRequest[], onTokens: () => void = () => undefined): Promise<string> {
  const running = asked.map((request) => engine.submit(request));
  const all = running.map(async (each) => {
    const ids: number[] = [];
    for await (const tokens of each) {
      onTokens();
      ids.push(...tokens.map(({ id }) => id));
    }
    return ids;
  });
  return JSON.stringify(await Promise.all(all));
}

/** A stage whose rows are counted: what there is to compute, and to compute again. */
function counted(stage: Stage): { readonly stage: Stage; readonly rows: () => number } {
  let rows = 0;
  const forward = (batch: Batch): Promise<StepOutput> => {
    for (const { tokens } of batch.entries) rows += tokens === "sampled" ? 1 : tokens.length;
    return stage.forward(batch);
  };
  const get = (target: Stage, name: string | symbol): unknown => {
    const value: unknown = name === "forward" ? forward : Reflect.get(target, name, target);
    return typeof value === "function" && name !== "forward" ? (value.bind(target) as unknown) : value;
  };
  return { stage: new Proxy(stage, { get }), rows: () => rows };
}

/** Kills somebody at random moments while something answers, and knows how long the next token took. */
class Killer {
  readonly #next: () => number;
  readonly #victims: readonly (() => void)[];
  readonly #most: number;
  readonly #spareMs: number;
  #killed = 0;
  #sinceToken = 0;
  #killedAt = 0;
  #worstMs = 0;

  /** @param spareMs between two kills, on the average */
  constructor(seed: number, most: number, spareMs: number, victims: readonly (() => void)[]) {
    this.#next = random(seed);
    this.#most = most;
    this.#spareMs = spareMs;
    this.#victims = victims;
  }

  get killed(): number {
    return this.#killed;
  }

  get isDone(): boolean {
    return this.#killed >= this.#most;
  }

  readonly onTokens = (): void => {
    if (this.#sinceToken > 0) this.#worstMs = Math.max(this.#worstMs, performance.now() - this.#killedAt);
    this.#sinceToken = 0;
  };

  /** Until `answering` settles. */
  async during<T>(answering: Promise<T>): Promise<T> {
    let over = false;
    const end = (): void => void (over = true);
    answering.then(end, end);
    for (;;) {
      await new Promise((resolve) => setTimeout(resolve, this.#next() * 2 * this.#spareMs));
      if (over) break;
      // The last kill's token is waited for like every other.
      check(this.#sinceToken === 0 || performance.now() - this.#killedAt < HANG_MS, "no token came after a kill");
      if (this.isDone || this.#sinceToken >= KILLS_WITHOUT_TOKEN) continue;
      this.#victims[Math.floor(this.#next() * this.#victims.length)]?.();
      if (this.#sinceToken++ === 0) this.#killedAt = performance.now();
      this.#killed++;
    }
    return answering;
  }

  report(): void {
    report(`${this.#killed} kills; the next token came after at most ${Math.round(this.#worstMs)} ms`);
  }
}

export function tests(gpuEngine: DenoEngine): readonly GpuTest[] {
  const models = new Models(gpuEngine);
  const prompt = async (): Promise<readonly number[]> => (await readGolden(`${MODEL}-golden.safetensors`)).ints("case2.input_ids");
  let alone: Promise<{ readonly text: string; readonly rows: number }> | undefined;
  const onOne = (): Promise<{ readonly text: string; readonly rows: number }> =>
    (alone ??= (async () => {
      const { stage, rows } = counted(await models.stage(MODEL, OPTIONS));
      const engine = await Engine.open(stage, { drafts: false });
      const text = await answers(engine, requests(await prompt()));
      await engine.close();
      return { text, rows: rows() };
    })());
  const expected = async (): Promise<string> => (await onOne()).text;
  const part = (begin: number, end: number): Promise<LocalStage> => models.stage(MODEL, { ...OPTIONS, layers: { begin, end } });

  return [
    {
      name: `two stages in a row, one of which is lost ${KILLS} times at random while three answers are computed: the same tokens, nothing left open, and no loss costs more than computing all again once`,
      run: async () => {
        const { text: want, rows: alone } = await onOne();
        const first = counted(await part(0, 1));
        const stages = [first.stage, await part(1, 2)];
        const free = (await Promise.all(stages.map((stage) => stage.describe()))).map(({ freeKvBlocks }) => freeKvBlocks);
        const kills: (() => void)[] = [];
        const served: Promise<void>[] = [];
        const linked = async (k: number): Promise<Stage> => {
          kills[k]?.();
          // One client at a time: a sequence of the one that was killed, half open, has one of four places.
          await served[k];
          const [here, there] = memoryChannel();
          const stage = stages[k];
          if (!stage) throw new RangeError(`no stage ${k}`);
          served[k] = serveStage(there, stage, { ownsStage: false });
          kills[k] = () => here.close("it was killed");
          return remoteStage(here, { peer: `stage ${k}` });
        };
        const killer = new Killer(
          7,
          KILLS,
          120,
          [0, 1].map((k) => () => kills[k]?.()),
        );
        let round = 0;
        for (; !killer.isDone; round++) {
          let pipeline = await PipelineStage.open([await linked(0), await linked(1)]);
          const reopen = async (): Promise<Stage> => {
            for (;;) {
              try {
                const left = await pipeline.abandon();
                pipeline = await PipelineStage.open(await Promise.all(left.map(async (stage, k) => stage ?? linked(k))));
                return pipeline;
              } catch (error) {
                // Killed again meanwhile.
                if (!isLoss(error)) throw error;
              }
            }
          };
          const engine = await Engine.open(pipeline, { drafts: false, reopen });
          const got = await killer.during(answers(engine, requests(await prompt()), killer.onTokens));
          check(got === want, `round ${round}, after ${killer.killed} kills: ${got}, expected ${want}`);
          // The last kill may have come too late for the answer to notice.
          await engine.close().catch(ignoreLoss);
          await pipeline.abandon();
          for (const kill of kills) kill();
        }
        await Promise.all(served);
        for (const [k, stage] of stages.entries()) {
          const { freeKvBlocks } = await stage.describe();
          check(freeKvBlocks === free[k], `stage ${k} has ${freeKvBlocks} free KV blocks, ${free[k]} in the beginning`);
        }
        // The delay that a loss brings, counted in work: it does not depend on how fast the machine is.
        const [rows, most] = [first.rows(), MOST_AGAIN * (round + killer.killed) * alone];
        check(
          rows <= most,
          `${rows} rows were computed in ${round} rounds with ${killer.killed} kills, expected at most ${most}: one takes ${alone}`,
        );
        report(`${rows} rows in ${round} rounds, of which one takes ${alone}`);
        killer.report();
      },
    },
    {
      name: `a stage whose experts are on two shards, one of which is lost ${KILLS} times at random: the same tokens`,
      run: async () => {
        const checkpoint = await models.checkpoint(MODEL);
        const gpu = await models.gpu();
        const shards = await Promise.all(
          [0, 1].map((half) =>
            loadLocalExpertShard(gpu, checkpoint, {
              maxTokens: OPTIONS.maxTokens,
              experts: [{ layer: 1, experts: Array.from({ length: 6 }, (_, index) => index * 2 + half) }],
            }),
          ),
        );
        const kills: (() => void)[] = [];
        const linked = (k: number) => {
          const [here, there] = memoryChannel();
          const shard = shards[k];
          if (!shard) throw new RangeError(`no shard ${k}`);
          serveShard(there, shard);
          kills[k] = () => here.close("it was killed");
          return remoteShard(here, { peer: `shard ${k}` });
        };
        const experts = await ShardedExperts.open(
          [0, 1].map((k) => ({ name: String(k), shard: linked(k) })),
          { replace: async ({ name }) => linked(Number(name)) },
        );
        const stage = await loadLocalStage(gpu, checkpoint, { ...OPTIONS, experts });
        const engine = await Engine.open(stage, { drafts: false });
        const want = await answers(engine, requests(await prompt()));
        check(want === (await expected()), `spread over shards: ${want}, expected ${await expected()}`);
        gpu.trim();
        const before = gpu.memory.byKind();
        const killer = new Killer(
          11,
          KILLS,
          60,
          [0, 1].map((k) => () => kills[k]?.()),
        );
        while (!killer.isDone) {
          const got = await killer.during(answers(engine, requests(await prompt()), killer.onTokens));
          check(got === want, `after ${killer.killed} kills: ${got}, expected ${want}`);
        }
        gpu.trim();
        const after = gpu.memory.byKind();
        // Tokens that are read while others are take a buffer more, which is kept: how many overlap is chance, and never more than a few.
        const others = (kinds: typeof after): number => total({ ...kinds, readback: 0 });
        const said = `${JSON.stringify(after)} bytes on the device, ${JSON.stringify(before)} before the kills`;
        check(others(after) === others(before) && (after.readback ?? 0) <= 2 * (before.readback ?? 0), said);
        await engine.close();
        killer.report();
      },
    },
    {
      name: `a worker and a process that have half of the layers each are killed at random, ${DEVICE_KILLS} times in all: others take their places, the same tokens`,
      run: async () => {
        const want = await expected();
        const open = (k: number): Promise<RemoteDevice> =>
          k === 0 ? openWorkerDevice({ webgpu: gpuEngine, name: "a worker" }) : openProcessDevice({ webgpu: gpuEngine, name: "a process" });
        const devices = await Promise.all([open(0), open(1)]);
        const opened = [...devices];
        const load = (k: number): Promise<Stage> => {
          const device = devices[k];
          if (!device) throw new RangeError(`no device ${k}`);
          return device.loadStage({ location: `${FIXTURES}${MODEL}`, options: { ...OPTIONS, layers: { begin: k, end: k + 1 } } });
        };
        let pipeline = await PipelineStage.open([await load(0), await load(1)]);
        const reopen = async (): Promise<Stage> => {
          for (;;) {
            try {
              const left = await pipeline.abandon();
              const stages = left.map(async (stage, k) => {
                if (stage) return stage;
                devices[k]?.close();
                const device = await open(k);
                devices[k] = device;
                opened.push(device);
                return load(k);
              });
              pipeline = await PipelineStage.open(await Promise.all(stages));
              return pipeline;
            } catch (error) {
              // Killed again meanwhile.
              if (!isLoss(error)) throw error;
            }
          }
        };
        const engine = await Engine.open(pipeline, { drafts: false, reopen });
        const killer = new Killer(
          13,
          DEVICE_KILLS,
          250,
          [0, 1].map((k) => () => devices[k]?.close()),
        );
        while (!killer.isDone) {
          const got = await killer.during(answers(engine, requests(await prompt()), killer.onTokens));
          check(got === want, `after ${killer.killed} kills: ${got}, expected ${want}`);
        }
        await engine.close().catch(ignoreLoss);
        for (const device of devices) device.close();
        // Every one that was ever opened has ended.
        await Promise.all(opened.map(({ lost }) => lost));
        killer.report();
      },
    },
    {
      name: "the trained model with room for a quarter of its experts answers as the reference does",
      run: async () => {
        const golden = await readGolden("tiny-capital.safetensors");
        const [ids, answer] = [golden.ints("input_ids"), golden.ints("greedy_w8a32")];
        const checkpoint = await models.checkpoint("tiny");
        const { nDenseLayers, nLayers, nRoutedExperts } = checkpoint.config;
        const layers = Array.from({ length: nLayers - nDenseLayers }, (_, index) => nDenseLayers + index);
        const all = Array.from({ length: nRoutedExperts }, (_, expert) => expert);
        const device = await openWorkerDevice({ webgpu: gpuEngine, name: "a small device" });
        const whole = layers.reduce((sum, layer) => sum + nRoutedExperts * expertBytes(checkpoint, layer), 0);
        const shard = await device.loadShard({
          location: fileURLToPath(tinyModelUrl),
          options: { experts: layers.map((layer) => ({ layer, experts: all })), maxTokens: 64, budgetBytes: whole / 4 },
        });
        const stage = await loadLocalStage(await models.gpu(), checkpoint, {
          kvFormat: "f32",
          contextTokens: 256,
          maxTokens: 64,
          experts: shard,
        });
        const engine = await Engine.open(stage, { drafts: false });
        const [got] = JSON.parse(
          await answers(engine, [{ promptIds: ids, maxNewTokens: answer.length, sampling: GREEDY, stopTokenIds: [] }]),
        ) as number[][];
        check(got?.join() === answer.join(), `${got?.join()}, expected ${answer.join()}`);
        const [stats] = await device.paging();
        check(stats !== undefined && stats.loads > 0, "nothing was paged");
        const { hits, needed, loads, loadedBytes, prefetched, prefetchHits, stallMs } = stats;
        report(
          `${((100 * hits) / needed).toFixed(1)} % of ${needed} experts were there, ${loads} loads of ${(loadedBytes / 1e6).toFixed(1)} MB, ` +
            `${prefetchHits} of ${prefetched} prefetches used, ${Math.round(stallMs)} ms of waiting`,
        );
        await engine.close();
        device.close();
      },
    },
    models.closing(),
  ];
}

/** The last kill of a test comes when it comes. */
function ignoreLoss(error: unknown): void {
  if (!isLoss(error)) throw error;
}

function total(bytes: Readonly<Record<string, number>>): number {
  return Object.values(bytes).reduce((sum, each) => sum + each, 0);
}

function expertBytes({ tensors }: Awaited<ReturnType<Models["checkpoint"]>>, layer: number): number {
  return ["gate_proj", "up_proj", "down_proj"].reduce((sum, matrix) => {
    const name = `model.layers.${layer}.mlp.experts.0.${matrix}.weight`;
    return sum + (tensors.tensors.get(name)?.byteLength ?? 0) + (tensors.tensors.get(`${name}_scale_inv`)?.byteLength ?? 0);
  }, 0);
}
