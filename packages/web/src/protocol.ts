/** What the page and its worker say to one another, and the shapes of OpenAI's chat completions that the client speaks. */
import type { ChatMessage } from "@shoal/tokenizer";

export type { ChatMessage } from "@shoal/tokenizer";
export type { DownloadProgress } from "./download.ts";

/** What is known before anything large is fetched. Sizes in bytes. */
export interface ModelCheck {
  readonly adapter: string;
  readonly isSoftware: boolean;
  readonly f16: boolean;
  readonly gpuBytes: number;
  /** Why this GPU cannot run the model; null where it can, as far as its limits tell. */
  readonly refusal: string | null;
  readonly downloadBytes: number;
  /** Still to be fetched. */
  readonly missingBytes: number;
  /** Free for this site; null where the browser does not tell. */
  readonly storageBytes: number | null;
  readonly contextTokens: number;
}

export interface ChatCompletionRequest {
  readonly messages: readonly ChatMessage[];
  readonly stream?: boolean;
  /** 0 (default): always the likeliest token. */
  readonly temperature?: number;
  readonly top_p?: number;
  readonly top_k?: number;
  readonly min_p?: number;
  readonly max_tokens?: number;
  readonly seed?: number;
}

export interface CompletionUsage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
}

/** Not OpenAI's: how long it took. Milliseconds. */
export interface CompletionTimings {
  readonly first_token_ms: number;
  readonly decode_ms: number;
}

export type CompletionFinish = "stop" | "length";

export interface ChatCompletion {
  readonly object: "chat.completion";
  readonly choices: readonly [
    {
      readonly index: 0;
      readonly message: { readonly role: "assistant"; readonly content: string };
      readonly finish_reason: CompletionFinish;
    },
  ];
  readonly usage: CompletionUsage;
  readonly timings: CompletionTimings;
}

export interface ChatCompletionChunk {
  readonly object: "chat.completion.chunk";
  readonly choices: readonly [
    { readonly index: 0; readonly delta: { readonly content?: string }; readonly finish_reason: CompletionFinish | null },
  ];
  /** In the last one. */
  readonly usage?: CompletionUsage;
  readonly timings?: CompletionTimings;
}

/** An answer in full, as the worker gives it. */
export interface Answer {
  readonly text: string;
  readonly finishReason: CompletionFinish;
  readonly usage: CompletionUsage;
  readonly timings: CompletionTimings;
}

export type AnswerRequest = Omit<ChatCompletionRequest, "stream">;
