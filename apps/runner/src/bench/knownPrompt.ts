/** Prompts whose answer is known, so that nothing wrong is timed. */
import type { ModelConfig } from "@shoal/checkpoint";
import { UsageError } from "../errors.ts";
import { type OpenModel, templateOf, tokenizerOf } from "../model/openModel.ts";

export const DEFAULT_PROMPT = "What is the capital of France?";
/** The embedded model's answer to it. */
export const EMBEDDED_ANSWER = "The capital of France is Paris.";
/** For a checkpoint without a tokenizer. */
const PLAIN_PROMPT_TOKENS = 16;

/** @throws UsageError where an answer is expected of a checkpoint without a tokenizer */
export function knownPrompt(
  model: OpenModel,
  text: string,
  expected: string | undefined,
): { readonly promptIds: readonly number[]; readonly expectedIds: readonly number[] | undefined } {
  if (model.checkpoint.tokenizerJson === null) {
    if (expected !== undefined) throw new UsageError("Cannot use '--expect': the checkpoint has no tokenizer", "bench");
    return { promptIds: plainIds(model.checkpoint.config), expectedIds: undefined };
  }
  const tokenizer = tokenizerOf(model);
  const promptIds = templateOf(model, tokenizer).encodeChat([{ role: "user", content: text }], { addGenerationPrompt: true });
  return { promptIds, expectedIds: expected === undefined ? undefined : tokenizer.encode(expected) };
}

/** Any ids do: they differ, so that several experts are chosen. */
function plainIds({ vocabSize }: ModelConfig): readonly number[] {
  return Array.from({ length: PLAIN_PROMPT_TOKENS }, (_, index) => (index * 7919 + 11) % vocabSize);
}
