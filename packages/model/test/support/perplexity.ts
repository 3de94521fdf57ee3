/** Likelihood of prose that training did not see: windows of 512 tokens, each alone after a BOS. */
import { readFileSync } from "node:fs";
import type { LocalStage } from "@shoal/model";
import { loadTokenizer } from "@shoal/tokenizer";
import { logitsOf, withSequence } from "./drive.ts";
import { FIXTURES } from "./golden.ts";
import type { Models } from "./models.ts";

export const WINDOW = 512;
const BOS = 0;

/** Ids of the fixture's prose. */
export async function heldOutProse(models: Models): Promise<readonly number[]> {
  const { tokenizerJson, tokenizerConfigJson } = await models.checkpoint("tiny");
  const tokenizer = loadTokenizer({ tokenizerJson: tokenizerJson ?? "", ...(tokenizerConfigJson !== null && { tokenizerConfigJson }) });
  return tokenizer.encode(readFileSync(`${FIXTURES}heldout-prose.txt`, "utf8"));
}

/** Sum over window `index`'s tokens of -ln p(token | BOS and those before it). */
export async function windowNll(on: LocalStage, ids: readonly number[], index: number): Promise<number> {
  const window = ids.slice(index * WINDOW, (index + 1) * WINDOW);
  const vocab = on.config.vocabSize;
  const inputs = [BOS, ...window.slice(0, -1)];
  const rows = await withSequence(on, (sequence) => logitsOf(on, sequence, inputs));
  return window.reduce((sum, id, row) => sum + negativeLogLikelihood(rows.subarray(row * vocab, (row + 1) * vocab), id), 0);
}

function negativeLogLikelihood(row: Float32Array, id: number): number {
  const largest = row.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const total = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return Math.log(total) + largest - (row[id] ?? Number.NaN);
}
