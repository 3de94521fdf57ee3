/** What one may ask an engine that serves many requests from one stage, and what comes of it. Nothing here knows text: strings, templates and tools lie above. */
import type { SamplingParameters } from "@shoal/model";
import type { OutputConstraint } from "./constrained/grammar.ts";

/** How tokens are chosen. The same seed gives the same tokens whatever else runs in the batch. */
export type RequestSampling = SamplingParameters;

export interface EngineRequest {
  readonly promptIds: readonly number[];
  /** At least 1. The context may end the answer before. */
  readonly maxNewTokens: number;
  readonly sampling: RequestSampling;
  /** The answer ends where one of these is chosen; it is not given out. */
  readonly stopTokenIds: readonly number[];
  /** Likeliest tokens to report with every token, 0 to 20; absent: no log probabilities at all. */
  readonly topLogprobs?: number;
  /** Also those of the prompt's tokens, from the second on: given out before the first token that is generated. Only with `topLogprobs`; the cache then helps little. */
  readonly promptLogprobs?: boolean;
  /** What the answer must spell. */
  readonly constraint?: OutputConstraint;
  readonly signal?: AbortSignal;
}

export interface TokenLogprob {
  readonly id: number;
  /** Natural logarithm of the probability that the model gave it, before temperature, penalties, bias, masks and filters. */
  readonly logprob: number;
}

export interface GeneratedToken {
  readonly id: number;
  /** It was not generated: it is the prompt's, and has its log probability. */
  readonly prompt?: true;
  /** Present where `topLogprobs` was given. */
  readonly logprob?: number;
  /** The likeliest first; as many as were asked for. */
  readonly topLogprobs?: readonly TokenLogprob[];
}

export interface EngineUsage {
  readonly promptTokens: number;
  /** Of the prompt, found in the cache. */
  readonly cachedTokens: number;
  /** Chosen, the stop token included. */
  readonly completionTokens: number;
}

export interface EngineResult {
  /** `stop`: a stop token. `length`: `maxNewTokens` or the end of the context. */
  readonly finishReason: "stop" | "length";
  readonly usage: EngineUsage;
  /** Milliseconds: waiting for a place, from submission to the first token, from the first token to the last. */
  readonly timings: { readonly queuedMs: number; readonly firstTokenMs: number; readonly decodeMs: number };
}

/** A request that runs. Iterating gives tokens as they become known, one or a few at a time; leaving the loop cancels the request. */
export interface RunningRequest extends AsyncIterable<readonly GeneratedToken[]> {
  /** Rejects as the iteration does: EngineError, whatever the stage throws, or the signal's reason. Needs no handler of its own. */
  readonly result: Promise<EngineResult>;
  /** Of the prompt, found in the cache: known once it has a place, and kept when it is cancelled, for whoever accounts for it. */
  readonly cachedTokens?: number | undefined;
  /** Ends it now; its KV blocks are free when the promise resolves. */
  cancel(reason?: unknown): Promise<void>;
}

export interface EngineStatus {
  readonly running: number;
  readonly waiting: number;
  readonly maxSequences: number;
  readonly contextTokens: number;
  readonly kvBlocks: {
    readonly total: number;
    readonly free: number;
    /** Kept for later prompts, given up when needed. */ readonly cached: number;
  };
  /** Since the start. */
  readonly totals: {
    readonly requests: number;
    readonly promptTokens: number;
    readonly cachedTokens: number;
    readonly completionTokens: number;
    readonly preemptions: number;
    readonly steps: number;
    /** Tokens that the MTP module drafted and a step verified. */
    readonly draftTokens: number;
    /** Of these, right. */
    readonly acceptedDraftTokens: number;
  };
}

export interface InferenceEngine {
  /** @throws EngineError for a request that could never run: named `bad-request` or `prompt-too-long`. */
  submit(request: EngineRequest): RunningRequest;
  status(): EngineStatus;
  /** Refuses new requests and resolves when the running ones have ended. */
  drain(): Promise<void>;
  /** Cancels what runs. The stage stays its owner's. */
  close(): Promise<void>;
}
