/** What else the model might have said: the likeliest tokens at each place, out of a stream's `logprobs`. They may come from any server, so nothing in them is trusted. */
export interface Alternative {
  readonly text: string;
  /** 0 to 1. */
  readonly probability: number;
}

export interface ShownToken extends Alternative {
  /** The likeliest first; the chosen one may be among them. */
  readonly alternatives: readonly Alternative[];
}

/** Of one token. */
const MOST_ALTERNATIVES = 20;
const MOST_TEXT = 200;

export function tokensOf(logprobs: unknown): readonly ShownToken[] {
  if (!isRecord(logprobs)) return [];
  return [...list(logprobs["reasoning_content"]), ...list(logprobs["content"])].flatMap((entry) => {
    const token = alternativeOf(entry);
    if (!token || !isRecord(entry)) return [];
    const alternatives = list(entry["top_logprobs"])
      .slice(0, MOST_ALTERNATIVES)
      .flatMap((other) => alternativeOf(other) ?? []);
    return [{ ...token, alternatives }];
  });
}

function alternativeOf(entry: unknown): Alternative | undefined {
  if (!isRecord(entry)) return undefined;
  const { token, logprob } = entry;
  if (typeof token !== "string" || typeof logprob !== "number" || !(logprob <= 0.001)) return undefined;
  return { text: token.slice(0, MOST_TEXT), probability: Math.min(1, Math.exp(logprob)) };
}

function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
