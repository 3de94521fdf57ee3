/** From chunks to an answer: text, reasoning, tool calls. Whatever a server says is bounded, and odd parts of it are left out. */
import type { BackendChunk } from "../backend.ts";
import type { AnswerEnd, AnswerStats, ToolCall } from "../conversations/tree.ts";
import { splitReasoning } from "./reasoning.ts";

export interface Answer {
  readonly content: string;
  /** Empty where the model did not reason. */
  readonly reasoning: string;
  /** Whether the reasoning goes on. */
  readonly isReasoning: boolean;
  readonly toolCalls: readonly ToolCall[];
}

export const NO_ANSWER: Answer = { content: "", reasoning: "", isReasoning: false, toolCalls: [] };

/** Of characters; an answer that goes on beyond is cut off. */
const MAX_TEXT = 2 * 2 ** 20;
const MAX_TOOL_CALLS = 128;
const MAX_NAME = 200;
const ENDS: readonly AnswerEnd[] = ["stop", "length", "tool_calls"];

export class AnswerReader {
  readonly #calls = new Map<number, { id: string; name: string; arguments: string }>();
  readonly #begunAt: number;
  #content = "";
  #reasoning = "";
  #end: AnswerEnd | undefined;
  #stats: AnswerStats | undefined;
  #pieces = 0;
  #firstAt = 0;
  #lastAt = 0;

  /** @param now milliseconds, of the clock whose times `push` is given */
  constructor(now: number) {
    this.#begunAt = now;
  }

  get answer(): Answer {
    const toolCalls = [...this.#calls.values()];
    if (this.#reasoning !== "") {
      const isReasoning = this.#content === "" && toolCalls.length === 0 && this.#end === undefined;
      return { content: this.#content, reasoning: this.#reasoning, isReasoning, toolCalls };
    }
    const { answer, reasoning, reasoned } = splitReasoning(this.#content);
    return { content: answer, reasoning: reasoning ?? "", isReasoning: !reasoned && this.#end === undefined, toolCalls };
  }

  get isEmpty(): boolean {
    return this.#content === "" && this.#reasoning === "" && this.#calls.size === 0;
  }

  get end(): AnswerEnd | undefined {
    return this.#end;
  }

  /** Of the backend where it tells; else as seen from here, a token a chunk. Undefined before the first token. */
  get stats(): AnswerStats | undefined {
    if (this.#stats || this.#pieces === 0) return this.#stats;
    return statsOf(this.#pieces, this.#firstAt - this.#begunAt, this.#lastAt - this.#firstAt);
  }

  push({ choices, usage, timings }: BackendChunk, now: number): void {
    const [choice] = choices;
    const { content, reasoning_content: reasoning, tool_calls: calls } = choice?.delta ?? {};
    const hasText = typeof content === "string" && content !== "";
    const hasReasoning = typeof reasoning === "string" && reasoning !== "";
    if (hasText) this.#content = bounded(this.#content + content);
    if (hasReasoning) this.#reasoning = bounded(this.#reasoning + reasoning);
    if (Array.isArray(calls)) for (const call of calls) this.#call(call);
    if (hasText || hasReasoning) {
      if (this.#pieces++ === 0) this.#firstAt = now;
      this.#lastAt = now;
    }
    const end = ENDS.find((one) => one === choice?.finish_reason);
    if (end) this.#end = end;
    const tokens = usage?.completion_tokens;
    if (typeof tokens === "number" && tokens > 0)
      this.#stats = statsOf(
        tokens,
        timings?.first_token_ms ?? this.#firstAt - this.#begunAt,
        timings?.decode_ms ?? this.#lastAt - this.#firstAt,
      );
  }

  /** OpenAI's: the first part of a call has its id and name, further ones more of its arguments. */
  #call(part: unknown): void {
    if (typeof part !== "object" || part === null) return;
    const { index, id, function: called } = part as { readonly index?: unknown; readonly id?: unknown; readonly function?: unknown };
    const at = typeof index === "number" && Number.isSafeInteger(index) && index >= 0 ? index : this.#calls.size;
    const known = this.#calls.get(at);
    if (!known && this.#calls.size >= MAX_TOOL_CALLS) return;
    const { name, arguments: given } = (typeof called === "object" && called !== null ? called : {}) as {
      readonly name?: unknown;
      readonly arguments?: unknown;
    };
    const call = known ?? { id: "", name: "", arguments: "" };
    if (typeof id === "string" && call.id === "") call.id = id.slice(0, 100);
    if (typeof name === "string" && call.name === "") call.name = name.slice(0, MAX_NAME);
    if (typeof given === "string") call.arguments = bounded(call.arguments + given);
    this.#calls.set(at, call);
  }
}

function bounded(text: string): string {
  return text.length > MAX_TEXT ? text.slice(0, MAX_TEXT) : text;
}

function statsOf(tokens: number, firstTokenMs: number, decodeMs: number): AnswerStats {
  return { tokens, firstTokenMs: Math.max(0, firstTokenMs), tokensPerSecond: decodeMs > 0 ? ((tokens - 1) * 1000) / decodeMs : 0 };
}
