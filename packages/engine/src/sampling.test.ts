import { describe, expect, it } from "vitest";
import { samplingOf } from "./sampling.ts";
import { stopTokenIds } from "./stopTokens.ts";

describe("samplingOf()", () => {
  it("is greedy when nobody said anything, or the model recommends no sampling", () => {
    expect(samplingOf({ seed: 3n })).toEqual({ temperature: 0, topP: 1, topK: 0, minP: 0, seed: 3n });
    expect(samplingOf({ seed: 0n }, { temperature: 0.6, topP: 0.95, topK: null, doSample: false }).temperature).toBe(0);
  });

  it("takes what the model recommends, where the person said nothing else", () => {
    const recommended = { temperature: 0.6, topP: 0.95, topK: null, doSample: true };
    expect(samplingOf({ seed: 0n, topP: 0.5 }, recommended)).toMatchObject({ temperature: 0.6, topP: 0.5, topK: 0 });
    expect(samplingOf({ seed: 0n, temperature: 0 }, recommended).temperature).toBe(0);
  });
});

describe("stopTokenIds()", () => {
  it("joins the config's end tokens and the tokenizer's", () => {
    expect(stopTokenIds({ eosTokenIds: [1, 5], vocabSize: 10 }, { eosTokenId: 7 })).toEqual([1, 5, 7]);
    expect(stopTokenIds({ eosTokenIds: [1], vocabSize: 10 }, { eosTokenId: 1 })).toEqual([1]);
    expect(stopTokenIds({ eosTokenIds: [], vocabSize: 10 }, { eosTokenId: 12 })).toEqual([]);
  });
});
