/** What one request may hold, and how many may be under way. A request beyond a limit is refused before work is done for it. */
export interface ApiLimits {
  /** Of a request's body. */
  readonly maxBodyBytes: number;
  /** Levels of nesting in a body. */
  readonly maxJsonDepth: number;
  /** Answers that wait for a place in the engine's batch. */
  readonly maxQueue: number;
  /** Answers under way for one client. */
  readonly maxPerClient: number;
  /** From a request's start to its end. */
  readonly timeoutMs: number;
  /** A body that does not arrive within it is refused. */
  readonly bodyTimeoutMs: number;
  /** Between comments that keep a silent stream open. */
  readonly keepAliveMs: number;
}

export const DEFAULT_LIMITS: ApiLimits = Object.freeze({
  // A context of 131,072 tokens holds some 500,000 characters of prose, of up to 4 bytes each, and JSON escapes some of them.
  maxBodyBytes: 4 * 2 ** 20,
  maxJsonDepth: 32,
  maxQueue: 64,
  maxPerClient: 16,
  timeoutMs: 600_000,
  bodyTimeoutMs: 30_000,
  // Proxies commonly close what is silent for 30 s or 60 s.
  keepAliveMs: 10_000,
});

/** Bounds of single fields, which the schemas state and so does the OpenAPI document. */
export const FIELD_LIMITS = Object.freeze({
  messages: 4096,
  contentParts: 1024,
  /** UTF-16 units. */
  textLength: 4 * 2 ** 20,
  stops: 16,
  stopLength: 1024,
  stopTokens: 64,
  maxTokens: 2 ** 24,
  topLogprobs: 20,
  logitBias: 1024,
  /** Answers to one request: prompts times `n`. */
  choices: 8,
  promptTokens: 2 ** 20,
  nameLength: 256,
  tools: 128,
  /** Fields of `chat_template_kwargs`. */
  templateVariables: 16,
  /** Of one JSON Schema as text, UTF-16 units. */
  schemaLength: 2 ** 16,
  /** Of the schemas of all tools together. */
  toolsLength: 2 ** 18,
  /** Of a regex, or one alternative. */
  patternLength: 4096,
  grammarLength: 2 ** 15,
  alternatives: 256,
});
