import { type ExpertCall, type ExpertShard, NO_EXPERT } from "@shoal/model";
import { expect, test } from "vitest";
import { PartedExperts } from "./partedExperts.ts";

/** An expert's output is its number times the row. */
class Counting implements ExpertShard {
  readonly calls: ExpertCall[] = [];
  readonly #begin: number;
  readonly #end: number;
  readonly #delayMs: number;

  constructor(begin: number, end: number, delayMs = 0) {
    this.#begin = begin;
    this.#end = end;
    this.#delayMs = delayMs;
  }

  async describe() {
    const experts = Array.from({ length: this.#end - this.#begin }, (_, place) => this.#begin + place);
    return { experts: [{ layer: 3, experts }], hiddenSize: 2, maxTokens: 8, memory: { weights: 1 } };
  }

  async run(call: ExpertCall): Promise<Float32Array<ArrayBuffer>> {
    this.calls.push(call);
    await new Promise((resolve) => setTimeout(resolve, this.#delayMs));
    const sums = new Float32Array(call.x.length);
    for (const [pair, expert] of call.experts.entries()) {
      if (expert === NO_EXPERT) continue;
      if (expert < this.#begin || expert >= this.#end) throw new Error(`expert ${expert} is not here`);
      const row = Math.floor(pair / call.slots);
      for (let column = 0; column < 2; column++)
        sums[row * 2 + column] = (sums[row * 2 + column] ?? 0) + expert * (call.weights[pair] ?? 0) * (call.x[row * 2 + column] ?? 0);
    }
    return sums;
  }

  async destroy(): Promise<void> {}
}

const CALL: ExpertCall = {
  layer: 3,
  tokens: 3,
  slots: 2,
  x: Float32Array.of(1, 2, 3, 4, 5, 6),
  experts: Uint32Array.of(0, 5, 4, NO_EXPERT, 1, 2),
  weights: Float32Array.of(0.5, 0.25, 1, 0, 0.1, 0.2),
};

test("PartedExperts gives each part the rows that name its experts, and adds the parts up", async () => {
  const [low, high] = [new Counting(0, 3, 5), new Counting(3, 6)];
  const parted = new PartedExperts([
    { begin: 0, end: 3, shard: low },
    { begin: 3, end: 6, shard: high },
  ]);
  const whole = new Counting(0, 6);
  expect(await parted.run(CALL)).toEqual(await whole.run(CALL));
  expect(low.calls.map(({ tokens }) => tokens)).toEqual([2]);
  expect(high.calls.map(({ x }) => [...x])).toEqual([[1, 2, 3, 4]]);
  expect(await parted.describe()).toEqual({ ...(await whole.describe()), memory: { weights: 2 } });
});

test("PartedExperts asks nobody who is not named, passes on what a part throws, and refuses an expert of no part", async () => {
  const low = new Counting(0, 3);
  const lost: ExpertShard = {
    describe: () => low.describe(),
    destroy: () => low.destroy(),
    run: () => Promise.reject(new Error("gone")),
  };
  const parted = new PartedExperts([
    { begin: 0, end: 3, shard: low },
    { begin: 3, end: 5, shard: lost },
  ]);
  const alone = { ...CALL, experts: Uint32Array.of(0, 1, 2, NO_EXPERT, 1, 2) };
  expect(await parted.run(alone)).toEqual(await new Counting(0, 6).run(alone));
  await expect(parted.run({ ...CALL, experts: Uint32Array.of(4, 1, 2, 0, 1, 2) })).rejects.toThrow("gone");
  await expect(parted.run(CALL)).rejects.toMatchObject({ name: "ModelError", code: "bad-batch" });
});
