/** A model that reasons first puts that between <think> and </think>; some templates open the tag for it. */
export interface ReasonedText {
  /** Null where the model did not reason. */
  readonly reasoning: string | null;
  /** Whether the reasoning has ended. */
  readonly reasoned: boolean;
  readonly answer: string;
}

const OPEN = "<think>";
const CLOSE = "</think>";

export function splitReasoning(text: string): ReasonedText {
  const start = text.trimStart();
  const opens = start.startsWith(OPEN);
  const end = text.indexOf(CLOSE);
  if (!opens && end < 0) return { reasoning: null, reasoned: true, answer: text };
  const body = opens ? start.slice(OPEN.length) : text;
  const close = body.indexOf(CLOSE);
  if (close < 0) return { reasoning: body.trim(), reasoned: false, answer: "" };
  return { reasoning: body.slice(0, close).trim(), reasoned: true, answer: body.slice(close + CLOSE.length).trimStart() };
}
