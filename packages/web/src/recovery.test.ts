import type { GenerationRequest, TokenGenerator } from "@shoal/engine";
import { DeviceLostError } from "@shoal/gpu";
import { expect, test } from "vitest";
import { generateThroughLoss } from "./recovery.ts";

/** Counts on from the length of the prompt, and loses its device after `most` tokens. */
function counting(most: number, seen: GenerationRequest[] = []): TokenGenerator {
  return {
    generate(request) {
      seen.push(request);
      const ids: number[] = [];
      while (ids.length < request.maxNewTokens) {
        if (ids.length === most) return Promise.reject(new DeviceLostError("unknown", "gone"));
        const id = request.promptIds.length + ids.length;
        ids.push(id);
        request.onTokens?.([id]);
      }
      const timings = {
        promptTokens: request.promptIds.length,
        cachedTokens: 0,
        generatedTokens: ids.length,
        firstTokenMs: 1,
        decodeMs: 1,
      };
      return Promise.resolve({ ids, finishReason: "length", timings });
    },
  };
}

const SAMPLING = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

test("generateThroughLoss goes on from the tokens that are out", async () => {
  const out: number[] = [];
  const seen: GenerationRequest[] = [];
  const request = {
    promptIds: [7, 7],
    maxNewTokens: 6,
    sampling: SAMPLING,
    stopTokenIds: [],
    onTokens: (ids: readonly number[]) => void out.push(...ids),
  };
  const result = await generateThroughLoss(counting(3), () => Promise.resolve(counting(Infinity, seen)), request);
  expect(out).toEqual([2, 3, 4, 5, 6, 7]);
  expect(result.ids).toEqual(out);
  expect(result.timings).toMatchObject({ promptTokens: 2, generatedTokens: 6 });
  expect(seen.map(({ promptIds, maxNewTokens }) => [promptIds, maxNewTokens])).toEqual([[[7, 7, 2, 3, 4], 3]]);
});

test("generateThroughLoss gives up on a device that is lost again and again, and passes other errors on", async () => {
  const request = { promptIds: [7], maxNewTokens: 6, sampling: SAMPLING, stopTokenIds: [] };
  await expect(generateThroughLoss(counting(0), () => Promise.resolve(counting(0)), request)).rejects.toThrow("device was lost");
  const broken: TokenGenerator = { generate: () => Promise.reject(new Error("other")) };
  await expect(generateThroughLoss(broken, () => Promise.reject(new Error("never")), request)).rejects.toThrow("other");
});
