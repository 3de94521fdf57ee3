/**
 * Nothing is timed before it is right: the tokens that decoding gives one after the other must be those that prefill alone gives for the same text, and,
 * where an answer is known, that answer. The two go through different kernels, so a defect of either shows.
 */
import type { ModelConfig } from "@shoal/checkpoint";
import type { SequenceSlot } from "../kvCache.ts";
import { DEFAULT_MAX_OUTPUTS } from "../localStage.ts";
import type { NumericMode } from "../recorder.ts";
import type { Stage } from "../stage.ts";
import { BenchError } from "./errors.ts";
import { decode, prefill } from "./run.ts";

/** Tokens compared where no answer is known. */
const COMPARED_TOKENS = 16;

/**
 * How far a token's logit may lie below the best one's and still count as the same choice. Sums are taken in another order (w8a32: differences under 1e-4 are
 * seen), and in w8a8 a value that falls on the other side of a rounding step moves logits by 0.1 and more (test/fixtures/README.md).
 */
const TIE_MARGIN: Readonly<Record<NumericMode, number>> = { w8a32: 1e-3, w8a8: 1 };

export interface VerifyOptions {
  readonly config: Pick<ModelConfig, "eosTokenIds" | "vocabSize">;
  readonly mode: NumericMode;
  /** Most tokens in one step. */
  readonly chunkTokens: number;
  readonly promptIds: readonly number[];
  /** What greedy decoding must give first. */
  readonly expectedIds?: readonly number[] | undefined;
}

export interface Verification {
  readonly promptTokens: number;
  /** Tokens of the greedy answer, up to its end token, that prefill chose as well. */
  readonly comparedTokens: number;
  /** Of them, chosen by a margin so small that either choice is right. */
  readonly nearTies: number;
  readonly greedyIds: readonly number[];
  /** Whether a known answer was compared too. */
  readonly knownAnswer: boolean;
}

/** Positions that `verify` puts into the cache. */
export function verifiedTokens(promptTokens: number, expectedTokens: number): number {
  return promptTokens + comparedRows(expectedTokens);
}

/** @throws BenchError named wrong-answer or not-reproducible. */
export async function verify(stage: Stage, sequence: SequenceSlot, options: VerifyOptions): Promise<Verification> {
  const { config, chunkTokens, promptIds, expectedIds } = options;
  const count = comparedRows(expectedIds?.length ?? 0);
  const step = await prefill(stage, sequence, promptIds, chunkTokens, "sample");
  const [[first = 0] = []] = await stage.sampled(step, 1);
  const all = [first, ...(await decode(stage, sequence, count - 1))];
  const end = all.findIndex((id) => config.eosTokenIds.includes(id));
  const greedyIds = end < 0 ? all : all.slice(0, end + 1);

  const wrong = expectedIds?.findIndex((id, index) => greedyIds[index] !== id) ?? -1;
  if (wrong >= 0)
    throw new BenchError(
      "wrong-answer",
      `Cannot measure: token ${wrong} of the greedy answer is ${greedyIds[wrong] ?? "missing"}, expected ${expectedIds?.[wrong]}`,
    );

  let nearTies = 0;
  const rows = await prefillLogits(stage, sequence, promptIds, all, options);
  for (const [index, id] of greedyIds.entries()) {
    const logits = rows[index] ?? new Float32Array();
    const best = argmax(logits);
    if (best === id && Number.isFinite(logits[id])) continue;
    const margin = (logits[best] ?? Number.NaN) - (logits[id] ?? Number.NaN);
    if (!(margin <= TIE_MARGIN[options.mode]))
      throw new BenchError(
        "not-reproducible",
        `Cannot measure: decoding chose token ${id} at position ${promptIds.length + index}, expected ${best}, which prefill prefers by ${margin.toPrecision(3)}`,
      );
    nearTies++;
  }
  return { promptTokens: promptIds.length, comparedTokens: greedyIds.length, nearTies, greedyIds, knownAnswer: expectedIds !== undefined };
}

/** Whole steps of DEFAULT_MAX_OUTPUTS rows, which are more than go through the kernels for decoding. */
function comparedRows(expectedTokens: number): number {
  return Math.ceil(Math.max(COMPARED_TOKENS, expectedTokens) / DEFAULT_MAX_OUTPUTS) * DEFAULT_MAX_OUTPUTS;
}

/** For each generated token the logits that it was chosen by, [vocabSize]. */
async function prefillLogits(
  stage: Stage,
  sequence: SequenceSlot,
  promptIds: readonly number[],
  generated: readonly number[],
  { chunkTokens, config }: VerifyOptions,
): Promise<readonly Float32Array[]> {
  const before = promptIds.slice(0, -1);
  if (before.length > 0) await prefill(stage, sequence, before, chunkTokens, "none");
  else await stage.truncate(sequence, 0);
  const rest = [...promptIds.slice(-1), ...generated.slice(0, -1)];
  const rows: Float32Array[] = [];
  for (let start = 0; start < rest.length; start += DEFAULT_MAX_OUTPUTS) {
    const tokens = rest.slice(start, start + DEFAULT_MAX_OUTPUTS);
    const { logits } = await stage.forward({ entries: [{ sequence, tokens }], output: "allLogits" });
    for (let row = 0; row < tokens.length; row++)
      rows.push(logits?.subarray(row * config.vocabSize, (row + 1) * config.vocabSize) ?? new Float32Array());
  }
  return rows;
}

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] ?? 0) > (values[best] ?? 0)) best = i;
  return best;
}
