/** One request for tokens and what comes of it, whoever computes it: this thread's `Generator`, or one in a worker. Times are milliseconds. */
import type { SamplingParameters } from "@shoal/model";

export interface GenerationRequest {
  /** The whole prompt, including what earlier requests had in common with it: that part is taken from the cache. */
  readonly promptIds: readonly number[];
  readonly maxNewTokens: number;
  readonly sampling: SamplingParameters;
  /** Generation ends where one of these is chosen; it is not given out. */
  readonly stopTokenIds: readonly number[];
  /** New ids as they become known, one or a few at a time. */
  readonly onTokens?: ((ids: readonly number[]) => void) | undefined;
  /** Prompt tokens computed so far, of those that were not in the cache. */
  readonly onPrefill?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** `stop`: the model ended its answer. `length`: `maxNewTokens` or the end of the context. */
export type FinishReason = "stop" | "length";

export interface GenerationTimings {
  readonly promptTokens: number;
  /** Of the prompt, found in the cache. */
  readonly cachedTokens: number;
  /** Chosen, the stop token included. */
  readonly generatedTokens: number;
  /** From the request to the first token. */
  readonly firstTokenMs: number;
  /** From the first token to the last. */
  readonly decodeMs: number;
}

export interface GenerationResult {
  /** Without the stop token. */
  readonly ids: readonly number[];
  readonly finishReason: FinishReason;
  readonly timings: GenerationTimings;
}

export interface TokenGenerator {
  /** @throws EngineError, whatever the stage throws, or the signal's reason. */
  generate(request: GenerationRequest): Promise<GenerationResult>;
}
