/**
 * Whatever answers: the engine on this device, a server, a swarm. The chat asks it as OpenAI's client is asked, streaming, and takes what may come from anywhere:
 * fields that are absent or of another type count as not said.
 */
import type { ChatMessage } from "@shoal/web";

export interface ChatBackend {
  /** Where what is written goes, such as a server's name. Undefined: nowhere. */
  readonly destination?: string;
  readonly chat: { readonly completions: { create(request: BackendRequest, options?: BackendOptions): AsyncIterable<BackendChunk> } };
}

export interface BackendOptions {
  readonly signal?: AbortSignal;
}

/** What `RequestWatcher`s add rides along: `logprobs`, `tools`. */
export interface BackendRequest {
  readonly messages: readonly ChatMessage[];
  readonly stream: true;
  readonly temperature: number;
  readonly top_p: number;
  readonly top_k?: number;
  readonly min_p?: number;
  readonly max_tokens: number;
  readonly seed?: number;
  readonly [extra: string]: unknown;
}

export interface BackendChunk {
  readonly choices: readonly BackendChoice[];
  /** In the last one. */
  readonly usage?: { readonly completion_tokens: number } | null | undefined;
  readonly timings?: { readonly first_token_ms: number; readonly decode_ms: number };
}

export interface BackendChoice {
  readonly delta: {
    readonly content?: string | null | undefined;
    readonly reasoning_content?: string | null | undefined;
    readonly tool_calls?: readonly unknown[] | undefined;
  };
  readonly finish_reason?: string | null | undefined;
  readonly logprobs?: unknown;
}

/**
 * The seam of hosts and tests: a page whose `globalThis.shoalBackend` is set before its script runs is answered by that, and loads no engine.
 */
export function injectedBackend(): ChatBackend | undefined {
  return (globalThis as { readonly shoalBackend?: ChatBackend }).shoalBackend;
}
