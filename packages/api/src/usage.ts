/** What a request cost, over all of its answers. */
import type { AnswerUsage } from "./answer.ts";
import type { Usage } from "./schemas/answers.ts";

/** @param prompts tokens of the prompts, each counted once however many answers it has */
export function usageOf(answers: readonly AnswerUsage[], prompts: readonly (readonly number[])[]): Usage {
  const perPrompt = prompts.length === 0 ? 1 : answers.length / prompts.length;
  const prompt = prompts.reduce((sum, ids) => sum + ids.length, 0);
  const completion = answers.reduce((sum, { completionTokens }) => sum + completionTokens, 0);
  // Of several answers to one prompt the first found least in the cache: that is what the prompt cost.
  const hit = prompts.reduce((sum, _, i) => {
    const own = answers.slice(i * perPrompt, (i + 1) * perPrompt).map(({ cachedTokens }) => cachedTokens);
    return sum + Math.min(...own);
  }, 0);
  return {
    prompt_tokens: prompt,
    completion_tokens: completion,
    total_tokens: prompt + completion,
    prompt_cache_hit_tokens: hit,
    prompt_cache_miss_tokens: prompt - hit,
    prompt_tokens_details: { cached_tokens: hit },
    completion_tokens_details: { reasoning_tokens: answers.reduce((sum, { reasoningTokens }) => sum + reasoningTokens, 0) },
  };
}
