/**
 * Tool calls in an answer's text, read while it comes. A call begins when its whole head stands there: the marks, the name of a tool that
 * there is, and the brace of its arguments; from then on its arguments come out as they are written, character by character, whatever they
 * are. Anything else that looks like a call and is none stays content, marks included: nothing is lost but the marks and the white space
 * around calls. Any split of the text into pieces gives the same.
 *
 * Marks inside a string of the arguments are part of that string, so that text which a model quotes cannot end a call or begin another.
 */
import { type CallLayout, callLayout, type ToolFormat, toolMarks } from "./tool-format.ts";

export type ToolCallPiece =
  | { readonly kind: "content"; readonly text: string }
  | { readonly kind: "call"; readonly index: number; readonly name: string }
  | { readonly kind: "arguments"; readonly index: number; readonly text: string };

export interface ToolCallOptions {
  readonly format: ToolFormat;
  /** Names of the tools that there are. */
  readonly names: readonly string[];
  /** Calls after which the answer is complete; no limit by default. */
  readonly mostCalls?: number;
}

interface Tool {
  readonly name: string;
  readonly layout: CallLayout;
}

/** What the text may begin with, as far as it is there. `open`: more of it is needed to tell. */
type Match<T> = { readonly found: T; readonly length: number } | "open" | undefined;

const { callsBegin, callsEnd, callBegin } = toolMarks;

export class ToolCallParser {
  readonly #tools: readonly Tool[];
  readonly #mostCalls: number;
  #held = "";
  #state: "content" | "arguments" | "end" | "between" | "complete" = "content";
  #calls = 0;
  #layout: CallLayout | undefined;
  /** Of the arguments read so far. */
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor({ format, names, mostCalls = Number.POSITIVE_INFINITY }: ToolCallOptions) {
    this.#tools = names.map((name) => ({ name, layout: callLayout(format, name) }));
    this.#mostCalls = mostCalls;
  }

  /** Calls that have begun. */
  get calls(): number {
    return this.#calls;
  }

  /** The last call that is wanted has ended: nothing comes out any more. */
  get complete(): boolean {
    return this.#state === "complete";
  }

  /** UTF-16 units that were pushed and not given out yet. */
  get heldLength(): number {
    return this.#held.length;
  }

  /** The pieces that are certain now, in their order; no text is empty. */
  push(text: string): readonly ToolCallPiece[] {
    this.#held += text;
    return this.#run(false);
  }

  /** What was held back, when the answer ends. */
  finish(): readonly ToolCallPiece[] {
    return this.#run(true);
  }

  #run(last: boolean): readonly ToolCallPiece[] {
    const pieces: ToolCallPiece[] = [];
    while (this.#step(last, pieces));
    if (this.#state === "complete") this.#held = "";
    return pieces;
  }

  /** @returns whether the state has changed, so that the rest of the text is to be looked at again */
  #step(last: boolean, pieces: ToolCallPiece[]): boolean {
    switch (this.#state) {
      case "content":
        return this.#readContent(last, pieces);
      case "arguments":
        return this.#readArguments(pieces);
      case "end":
        return this.#readEnd(last, pieces);
      case "between":
        return this.#readBetween(last, pieces);
      case "complete":
        return false;
    }
  }

  #readContent(last: boolean, pieces: ToolCallPiece[]): boolean {
    for (let from = 0; ;) {
      const at = firstOf(this.#held, [callsBegin, callBegin], from);
      if (at < 0) {
        // White space may turn out to stand before a call.
        const certain = this.#held.slice(0, this.#held.length - openLength(this.#held, [callsBegin, callBegin])).trimEnd().length;
        this.#giveContent(last ? this.#held.length : Math.max(from, certain), pieces);
        return false;
      }
      const head = this.#headAt(at);
      if (head === "open" && !last) {
        this.#giveContent(this.#held.slice(0, at).trimEnd().length, pieces);
        return false;
      }
      if (head !== undefined && head !== "open") {
        this.#giveContent(this.#held.slice(0, at).trimEnd().length, pieces);
        this.#held = this.#held.trimStart();
        this.#begin(head.found, head.length, pieces);
        return true;
      }
      from = at + (this.#held.startsWith(callsBegin, at) ? callsBegin : callBegin).length;
    }
  }

  /** The first call's head, with the mark of all calls before it or without. */
  #headAt(at: number): Match<Tool> {
    const text = this.#held.slice(at);
    const skipped = text.startsWith(callsBegin) ? callsBegin.length : 0;
    const rest = text.slice(skipped);
    const space = rest.length - rest.trimStart().length;
    const head = this.#head(rest.slice(space));
    return head === undefined || head === "open" ? head : { found: head.found, length: skipped + space + head.length };
  }

  #head(text: string): Match<Tool> {
    let open = false;
    for (const tool of this.#tools) {
      const { begin } = tool.layout;
      if (begin.startsWith(text)) open = true;
      if (!text.startsWith(begin)) continue;
      const rest = text.slice(begin.length);
      const start = rest.trimStart();
      if (start.startsWith("{")) return { found: tool, length: text.length - start.length };
      if (start === "") open = true;
    }
    return open ? "open" : undefined;
  }

  #begin({ name, layout }: Tool, headLength: number, pieces: ToolCallPiece[]): void {
    this.#held = this.#held.slice(headLength);
    this.#layout = layout;
    pieces.push({ kind: "call", index: this.#calls++, name });
    this.#depth = 0;
    this.#inString = this.#escaped = false;
    this.#state = "arguments";
  }

  #readArguments(pieces: ToolCallPiece[]): boolean {
    const text = this.#held;
    for (let i = 0; i < text.length; i++) {
      if (this.#ends(text.charCodeAt(i))) {
        this.#giveArguments(i + 1, pieces);
        this.#state = "end";
        return true;
      }
    }
    this.#giveArguments(text.length, pieces);
    return false;
  }

  /** Takes a character of the arguments; true for the one that closes their object. */
  #ends(unit: number): boolean {
    const character = String.fromCharCode(unit);
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === "\\") this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (character === '"') this.#inString = true;
    else if (character === "{" || character === "[") this.#depth++;
    else if (character === "}" || character === "]") return --this.#depth === 0;
    return false;
  }

  #readEnd(last: boolean, pieces: ToolCallPiece[]): boolean {
    const length = endLength(this.#held, this.#layout?.end ?? []);
    // An answer may end within the marks, or before them.
    if (length === "open") {
      if (last) this.#held = "";
      return false;
    }
    if (length === undefined) {
      this.#state = "content";
      // Not to be taken for white space before a call.
      this.#giveContent(this.#held.length - this.#held.trimStart().length, pieces);
      return true;
    }
    this.#held = this.#held.slice(length);
    this.#state = this.#calls >= this.#mostCalls ? "complete" : "between";
    return true;
  }

  #readBetween(last: boolean, pieces: ToolCallPiece[]): boolean {
    const start = this.#held.trimStart();
    if (start.startsWith(callsEnd)) {
      this.#held = start.slice(callsEnd.length);
      this.#state = "content";
      return true;
    }
    if (callsEnd.startsWith(start) || callBegin.startsWith(start)) {
      if (last) this.#held = "";
      return false;
    }
    const head = this.#head(start);
    if (head === "open" && !last) return false;
    if (head !== undefined && head !== "open") {
      this.#held = start;
      this.#begin(head.found, head.length, pieces);
      return true;
    }
    this.#state = "content";
    return true;
  }

  #giveContent(length: number, pieces: ToolCallPiece[]): void {
    if (length > 0) pieces.push({ kind: "content", text: this.#held.slice(0, length) });
    this.#held = this.#held.slice(length);
  }

  #giveArguments(length: number, pieces: ToolCallPiece[]): void {
    if (length > 0) pieces.push({ kind: "arguments", index: this.#calls - 1, text: this.#held.slice(0, length) });
    this.#held = this.#held.slice(length);
  }
}

/** Where the first of several strings begins; -1 where none does. */
function firstOf(text: string, strings: readonly string[], from: number): number {
  const places = strings.map((string) => text.indexOf(string, from)).filter((place) => place >= 0);
  return places.length === 0 ? -1 : Math.min(...places);
}

/** Of the end of a text: the longest part that begins one of these. */
function openLength(text: string, strings: readonly string[]): number {
  const longest = Math.max(...strings.map((string) => string.length));
  for (let length = Math.min(longest - 1, text.length); length > 0; length--) {
    const end = text.slice(-length);
    if (strings.some((string) => string.length > length && string.startsWith(end))) return length;
  }
  return 0;
}

/** The length of these strings one after the other, with white space before each, or of the last ones alone; undefined where something else stands there. */
function endLength(text: string, parts: readonly string[]): number | "open" | undefined {
  let at = 0;
  for (const [i, part] of parts.entries()) {
    const start = text.length - text.slice(at).trimStart().length;
    if (text.startsWith(part, start)) at = start + part.length;
    else if (parts.slice(i).some((other) => other.startsWith(text.slice(start)))) return "open";
    else if (i === parts.length - 1) return undefined;
  }
  return at;
}
