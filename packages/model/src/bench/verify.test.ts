import { describe, expect, it } from "vitest";
import type { SequenceSlot } from "../kvCache.ts";
import type { Batch, Stage, StepOutput } from "../stage.ts";
import { verify } from "./verify.ts";

const VOCAB = 50;
const slot = 0 as SequenceSlot;

/** A stage whose model is a rule: after token t comes (3 t + 1) mod 50. `decoded` and `prefilled` bend what either way of computing gives. */
class RuleStage implements Stage {
  readonly decoded: (id: number, position: number) => number;
  readonly prefilled: (logits: Float32Array, position: number) => void;
  readonly #ids: number[] = [];
  readonly #sampled: number[] = [];
  #last = 0;

  constructor(
    decoded: (id: number, position: number) => number = (id) => id,
    prefilled: (logits: Float32Array, position: number) => void = () => {},
  ) {
    this.decoded = decoded;
    this.prefilled = prefilled;
  }

  async forward({ entries, output }: Batch): Promise<StepOutput> {
    const tokens = entries[0]?.tokens ?? [];
    const ids = tokens === "sampled" ? [this.#last] : tokens;
    const logits = new Float32Array(ids.length * VOCAB);
    for (const [row, id] of ids.entries()) {
      this.#ids.push(id);
      const values = logits.subarray(row * VOCAB, (row + 1) * VOCAB);
      values[next(id)] = 10;
      this.prefilled(values, this.#ids.length);
    }
    this.#last = this.decoded(next(ids.at(-1) ?? 0), this.#ids.length);
    this.#sampled.push(this.#last);
    return { step: this.#sampled.length - 1, ...(output === "allLogits" && { logits }) };
  }

  logprobs(): Promise<never> {
    return Promise.reject(new Error("nobody asks for these"));
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#sampled.slice(first, first + count).map((id) => [id]);
  }

  async truncate(_: SequenceSlot, length: number): Promise<void> {
    this.#ids.length = length;
  }

  describe = (): Promise<never> => Promise.reject(new Error("not used"));
  open = (): Promise<SequenceSlot> => Promise.resolve(slot);
  close = (): Promise<void> => Promise.resolve();
  setSampling = (): Promise<void> => Promise.resolve();
  drafted = (): Promise<never> => Promise.reject(new Error("not used"));
  draft = (): Promise<never> => Promise.reject(new Error("not used"));
  retain = (): Promise<never> => Promise.reject(new Error("not used"));
  release = (): Promise<never> => Promise.reject(new Error("not used"));
  exportKv = (): Promise<never> => Promise.reject(new Error("not used"));
  importKv = (): Promise<never> => Promise.reject(new Error("not used"));
  destroy = (): Promise<void> => Promise.resolve();
}

function next(id: number): number {
  return (3 * id + 1) % VOCAB;
}

const options = { config: { eosTokenIds: [40], vocabSize: VOCAB }, mode: "w8a32", chunkTokens: 4, promptIds: [5, 6, 7, 8, 9] } as const;
/** 9, then by the rule. */
const ANSWER = [28, 35, 6, 19, 8, 25];

describe("verify()", () => {
  it("compares the greedy answer with prefill and with what is known", async () => {
    const result = await verify(new RuleStage(), slot, { ...options, expectedIds: ANSWER });
    expect(result).toMatchObject({ promptTokens: 5, nearTies: 0, knownAnswer: true });
    expect(result.greedyIds.slice(0, ANSWER.length)).toEqual(ANSWER);
  });

  it("compares up to the end token", async () => {
    const result = await verify(new RuleStage(), slot, { ...options, config: { eosTokenIds: [19], vocabSize: VOCAB } });
    expect(result.greedyIds).toEqual([28, 35, 6, 19]);
    expect(result.comparedTokens).toBe(4);
  });

  it("throws when the answer is not the known one", async () => {
    const wrong = ANSWER.with(2, 7);
    await expect(verify(new RuleStage(), slot, { ...options, expectedIds: wrong })).rejects.toMatchObject({
      name: "BenchError",
      code: "wrong-answer",
      message: "Cannot measure: token 2 of the greedy answer is 6, expected 7",
    });
  });

  it("throws when decoding and prefill disagree", async () => {
    const stage = new RuleStage((id, position) => (position === 7 ? (id + 1) % VOCAB : id));
    await expect(verify(stage, slot, options)).rejects.toMatchObject({ name: "BenchError", code: "not-reproducible" });
  });

  it("counts a choice within rounding as right", async () => {
    const stage = new RuleStage(undefined, (logits, position) => {
      if (position === 6) logits[(next(28) + 1) % VOCAB] = 10.0005;
    });
    expect((await verify(stage, slot, options)).nearTies).toBe(1);
  });

  it("throws when the logits are not numbers", async () => {
    const stage = new RuleStage(undefined, (logits) => logits.fill(Number.NaN));
    await expect(verify(stage, slot, options)).rejects.toMatchObject({ code: "not-reproducible" });
  });
});
