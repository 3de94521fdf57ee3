/** What every ExpertShard does, wherever it runs: one suite, its results held to those of a shard of this thread, bit by bit. */
import { type ExpertCall, type ExpertShard, type LocalExpertShardOptions, NO_EXPERT } from "@shoal/model";
import { type GpuTest, check } from "@shoal/model/testing";
import { same } from "./stageContract.ts";

export const SHARD_MODEL = "ragged-v3-fp8";
/** One MoE layer's experts, but one, and some of the MTP module's. */
export const SHARD_OPTIONS = {
  experts: [
    { layer: 1, experts: [0, 1, 2, 3, 4, 6, 7] },
    { layer: 2, experts: [1, 3] },
  ],
  maxTokens: 40,
} as const satisfies LocalExpertShardOptions;

export interface ShardContract {
  readonly name: string;
  readonly open: () => Promise<{ readonly shard: ExpertShard; readonly close: () => void }>;
  readonly local: () => Promise<ExpertShard>;
  readonly hiddenSize: number;
  readonly slots: number;
  /** Largest difference from the local shard, as a share of the largest value; 0 by default. */
  readonly tolerance?: number;
}

export function shardContract({ name, open, local, hiddenSize, slots, tolerance = 0 }: ShardContract): readonly GpuTest[] {
  let opened: ReturnType<ShardContract["open"]> | undefined;
  const run = (what: string, body: (shard: ExpertShard, reference: ExpertShard) => Promise<void>): GpuTest => ({
    name: `${name}: ${what}`,
    run: async () => {
      opened ??= open();
      await body((await opened).shard, await local());
    },
  });
  const call = (layer: number, tokens: number, owned: readonly number[]): ExpertCall =>
    exampleCall({ layer, tokens, slots, hiddenSize, owned });

  return [
    run("says which experts it has", async (shard) => {
      const { experts, maxTokens } = await shard.describe();
      check(JSON.stringify(experts) === JSON.stringify(SHARD_OPTIONS.experts), JSON.stringify(experts));
      check(maxTokens === SHARD_OPTIONS.maxTokens && (await shard.describe()).hiddenSize === hiddenSize, "other sizes");
    }),
    run("gives the sums of a local shard, for few rows and for many, of two layers, several calls at once", async (shard, reference) => {
      const calls = [call(1, 1, [0, 3, 6]), call(1, 3, [0, 1, 2, 7]), call(2, 2, [1, 3]), call(1, 37, [0, 1, 2, 3, 4, 6, 7])];
      const [actual, expected] = [
        await Promise.all(calls.map((each) => shard.run(each))),
        await Promise.all(calls.map((each) => reference.run(each))),
      ];
      for (const [index, rows] of expected.entries()) {
        const largest = Math.max(...rows.map(Math.abs));
        check(largest > 0, `call ${index} gives nothing but zeros`);
        same(`call ${index}`, actual[index], rows, tolerance * largest);
      }
    }),
    run("gives zeros to rows that name no expert, and other rows what they have alone", async (shard) => {
      const both = call(1, 2, [0, 1, 2]);
      const experts = both.experts.slice().fill(NO_EXPERT, 0, slots);
      const rows = await shard.run({ ...both, experts, weights: both.weights.slice().fill(0, 0, slots) });
      check(
        rows.subarray(0, hiddenSize).every((value) => value === 0),
        "a row without experts is not zero",
      );
      const alone = await shard.run({
        ...both,
        tokens: 1,
        x: both.x.slice(hiddenSize),
        experts: both.experts.slice(slots),
        weights: both.weights.slice(slots),
      });
      same("the other row", rows.slice(hiddenSize), alone, 1e-5);
    }),
    run("refuses what it does not have by name and code, and goes on", async (shard) => {
      const good = call(1, 1, [0]);
      const refused = async (bad: ExpertCall): Promise<void> => {
        const error: unknown = await shard.run(bad).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        check(error instanceof Error && error.name === "ModelError" && "code" in error && error.code === "bad-batch", String(error));
      };
      await refused(call(1, 1, [5]));
      await refused({ ...good, layer: 0 });
      await refused(call(1, SHARD_OPTIONS.maxTokens + 1, [0]));
      await refused({ ...good, x: good.x.slice(1) });
      await shard.run(good);
    }),
    {
      name: `${name}: ends`,
      run: async () => {
        opened ??= open();
        const { shard, close } = await opened;
        await shard.destroy();
        close();
      },
    },
  ];
}

/** Rows of noise; each names `slots` experts at most, those of `owned` in turn. */
export function exampleCall(spec: {
  layer: number;
  tokens: number;
  slots: number;
  hiddenSize: number;
  owned: readonly number[];
}): ExpertCall {
  const { layer, tokens, slots, hiddenSize, owned } = spec;
  const experts = new Uint32Array(tokens * slots).fill(NO_EXPERT);
  const weights = new Float32Array(tokens * slots);
  for (let row = 0; row < tokens; row++)
    for (let slot = 0; slot < Math.min(slots, owned.length); slot++) {
      experts[row * slots + slot] = owned[(row + slot) % owned.length] ?? NO_EXPERT;
      weights[row * slots + slot] = 0.1 + ((row * 7 + slot * 3) % 10) / 10;
    }
  const x = Float32Array.from({ length: tokens * hiddenSize }, (_, index) => Math.sin(index * 1.37 + layer) * 1.5);
  return { layer, tokens, slots, x, experts, weights };
}
