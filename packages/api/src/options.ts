/** What an API is made of: an engine, the model's way with text, and who hears of requests. */
import type { InferenceEngine, samplingOf } from "@shoal/engine";
import type { ChatTemplate, Tokenizer } from "@shoal/tokenizer";
import type { ApiLimits } from "./limits.ts";

export interface ServedModel {
  /** As clients name it. */
  readonly id: string;
  /** Rows of the output layer: token ids lie below it. */
  readonly vocabSize: number;
  /** Tokens that end an answer. */
  readonly stopTokenIds: readonly number[];
  /** Its generation_config.json, which counts where a request leaves sampling open. */
  readonly recommended: NonNullable<Parameters<typeof samplingOf>[1]> | null;
  /** Unix time, seconds. */
  readonly created: number;
}

/** One request, once its answer has ended. */
export interface RequestRecord {
  readonly id: string;
  readonly client: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly ms: number;
  readonly stream: boolean;
  /** The error's code, if it failed: also where it did so in the middle of a stream. */
  readonly error?: string;
  /** What was thrown, for faults that are not the client's. */
  readonly fault?: unknown;
  readonly promptTokens?: number;
  readonly cachedTokens?: number;
  readonly completionTokens?: number;
  readonly finishReasons?: readonly string[];
  /** The request's body, checked: holds what people wrote. */
  readonly body?: unknown;
}

/** How often a device that has not all of its experts had to read some. Counts since it was loaded. */
export interface ExpertPaging {
  readonly device: string;
  /** Experts that steps needed, and how many of them were there. */
  readonly needed: number;
  readonly hits: number;
  readonly loads: number;
  readonly loadedBytes: number;
  /** Read before they were needed, and how many of those were. */
  readonly prefetched: number;
  readonly prefetchHits: number;
  /** That steps waited for experts. */
  readonly stallMs: number;
}

export interface ApiOptions {
  readonly engine: InferenceEngine;
  readonly tokenizer: Tokenizer;
  readonly template: ChatTemplate;
  readonly model: ServedModel;
  readonly limits?: Partial<ApiLimits>;
  /** When it fires no further answers are begun, and /health says so. */
  readonly closing?: AbortSignal;
  readonly onRequest?: (record: RequestRecord) => void;
  /** For /metrics, of each device that pages. */
  readonly paging?: () => Promise<readonly ExpertPaging[]>;
}
