import type { ModelConfig } from "@shoal/checkpoint";
import type { Tokenizer } from "@shoal/tokenizer";

/** Tokens that end an answer: those that the config names, and the tokenizer's own end token. */
export function stopTokenIds(
  config: Pick<ModelConfig, "eosTokenIds" | "vocabSize">,
  tokenizer?: Pick<Tokenizer, "eosTokenId">,
): readonly number[] {
  const ids = new Set(config.eosTokenIds);
  const own = tokenizer?.eosTokenId;
  if (own !== undefined && own < config.vocabSize) ids.add(own);
  return [...ids];
}
