/**
 * One stream of tokens from an engine: for a stage that drafts, which the engine makes use of and `Generator` does not. Nothing is kept between requests unless the engine caches prefixes, so it is
 * for prompts that have nothing in common.
 */
import type { GenerationRequest, GenerationResult, TokenGenerator } from "./generation.ts";
import type { InferenceEngine } from "./request.ts";

export class EngineGenerator implements TokenGenerator {
  readonly #engine: InferenceEngine;

  /** The engine is used, not owned: whoever opened it closes it. */
  constructor(engine: InferenceEngine) {
    this.#engine = engine;
  }

  async generate({ onTokens, onPrefill, signal, ...request }: GenerationRequest): Promise<GenerationResult> {
    signal?.throwIfAborted();
    const running = this.#engine.submit({ ...request, ...(signal && { signal }) });
    const ids: number[] = [];
    for await (const tokens of running) {
      const { promptIds } = request;
      if (ids.length === 0) onPrefill?.(promptIds.length, promptIds.length);
      const some = tokens.map(({ id }) => id);
      ids.push(...some);
      if (some.length > 0) onTokens?.(some);
    }
    const { finishReason, usage, timings } = await running.result;
    const { promptTokens, cachedTokens, completionTokens } = usage;
    const { queuedMs: _, ...times } = timings;
    return { ids, finishReason, timings: { promptTokens, cachedTokens, generatedTokens: completionTokens, ...times } };
  }
}
