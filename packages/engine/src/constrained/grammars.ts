/**
 * Grammars of one vocabulary, in the thread that they run in: compiled by xgrammar (https://github.com/mlc-ai/xgrammar, arXiv 2411.15100), kept for others that ask for the same,
 * and followed token by token. Nothing here bounds time: whoever asks ends the thread if it takes too long (client.ts).
 */
import type { CompiledGrammar, GrammarCompiler, GrammarMatcher } from "@mlc-ai/web-xgrammar";
import { loadXgrammar } from "#xgrammar";
import { EbnfWriter } from "./ebnfWriter.ts";
import type { OutputGrammar } from "./grammar.ts";
import { FaultError, XgrammarInstance } from "./instance.ts";
import type { GrammarCall, GrammarReply } from "./protocol.ts";
import type { TokenVocabulary } from "./vocabulary.ts";

/** Grammars kept compiled. Those of a vocabulary of 129,280 tokens take a few MB each. */
const MOST_COMPILED = 16;
/** UTF-16 units of a grammar's text, after everything in it was written out. */
const MOST_TEXT = 2 ** 20;

interface Session {
  readonly matcher: GrammarMatcher;
  /** Whether the tokens of marks may be chosen. */
  readonly marks: boolean;
}

interface Ready {
  readonly xgrammar: XgrammarInstance;
  readonly compiler: GrammarCompiler;
  readonly vocabulary: TokenVocabulary;
  readonly writer: EbnfWriter;
}

export class Grammars {
  #ready: Ready | undefined;
  /** By their description, the one used longest ago first. */
  readonly #compiled = new Map<string, CompiledGrammar>();
  readonly #sessions = new Map<number, Session>();

  /** Never rejects. */
  async answer(call: GrammarCall): Promise<GrammarReply> {
    try {
      switch (call.kind) {
        case "vocabulary":
          await this.#begin(call.vocabulary);
          return {};
        case "open":
          await this.#open(call.session, call.grammar);
          return { mask: await this.#accept(call.session, call.ids) };
        case "accept":
          return { mask: await this.#accept(call.session, call.ids) };
        case "ahead":
          return { ahead: await this.#ahead(call.session, call.ids) };
        case "close":
          this.#close(call.session);
          return {};
      }
    } catch (error) {
      if (error instanceof FaultError) return { error: { message: error.message, fatal: error.fatal } };
      return { error: { message: `it failed (${String(error)})`, fatal: true } };
    }
  }

  async #begin(vocabulary: TokenVocabulary): Promise<void> {
    const xgrammar = await XgrammarInstance.load(loadXgrammar);
    const { size, tokens, stopTokenIds } = vocabulary;
    const compiler = await xgrammar.call("the vocabulary", async ({ TokenizerInfo, GrammarCompiler }) => {
      const info = await TokenizerInfo.createTokenizerInfo([...tokens], "byte_level", false, size, [...stopTokenIds]);
      return GrammarCompiler.createGrammarCompiler(info, true);
    });
    this.#ready = { xgrammar, compiler, vocabulary, writer: new EbnfWriter(vocabulary, xgrammar) };
  }

  async #open(session: number, grammar: OutputGrammar): Promise<void> {
    const { xgrammar } = this.#must();
    const compiled = await this.#compile(grammar);
    const matcher = await xgrammar.call("the grammar", ({ GrammarMatcher }) => GrammarMatcher.createGrammarMatcher(compiled));
    this.#sessions.set(session, { matcher, marks: hasMarks(grammar) });
  }

  async #compile(grammar: OutputGrammar): Promise<CompiledGrammar> {
    const { xgrammar, compiler, writer } = this.#must();
    const key = JSON.stringify(grammar);
    const known = this.#compiled.get(key);
    if (known) {
      this.#compiled.delete(key);
      this.#compiled.set(key, known);
      return known;
    }
    const text = await writer.write(grammar);
    if (text.length > MOST_TEXT) throw new FaultError(`it takes ${text.length} characters when written out, expected at most ${MOST_TEXT}`);
    const compiled = await xgrammar.call("the grammar", () => compiler.compileGrammar(text));
    this.#compiled.set(key, compiled);
    const [[oldest, one] = []] = this.#compiled;
    if (this.#compiled.size > MOST_COMPILED && oldest !== undefined) {
      this.#compiled.delete(oldest);
      one?.dispose();
    }
    return compiled;
  }

  async #accept(session: number, ids: readonly number[]): Promise<Uint32Array<ArrayBuffer>> {
    const { xgrammar } = this.#must();
    const found = this.#session(session);
    return xgrammar.call("the grammar", async () => {
      for (const id of ids) if (!found.matcher.acceptToken(id)) throw new FaultError(`token ${id} does not follow it`);
      const mask = await this.#mask(found);
      if (!mask) throw new FaultError("it leaves no token to go on with: no text follows it to an end");
      return mask;
    });
  }

  async #ahead(session: number, ids: readonly number[]): Promise<readonly Uint32Array<ArrayBuffer>[]> {
    const { xgrammar, vocabulary } = this.#must();
    const found = this.#session(session);
    const { matcher } = found;
    return xgrammar.call("the grammar", async () => {
      const masks: Uint32Array<ArrayBuffer>[] = [];
      let accepted = 0;
      for (const id of ids) {
        if (vocabulary.stopTokenIds.includes(id) || !matcher.acceptToken(id)) break;
        accepted++;
        const mask = await this.#mask(found);
        if (!mask) break;
        masks.push(mask);
      }
      if (accepted > 0) matcher.rollBack(accepted);
      return masks;
    });
  }

  /** Of the next token; undefined where there is none. */
  async #mask({ matcher, marks }: Session): Promise<Uint32Array<ArrayBuffer> | undefined> {
    const { size, marks: markIds } = this.#must().vocabulary;
    const words = await matcher.getNextTokenBitmask();
    const mask = new Uint32Array(words.buffer as ArrayBuffer, words.byteOffset, words.length).slice();
    // It leaves the bits after the last token as they are.
    if (size % 32 > 0) mask[size >>> 5] = (mask[size >>> 5] ?? 0) & ((1 << (size & 31)) - 1);
    if (!marks) for (const id of Object.values(markIds)) mask[id >>> 5] = (mask[id >>> 5] ?? 0) & ~(1 << (id & 31));
    return mask.some((word) => word !== 0) ? mask : undefined;
  }

  #close(session: number): void {
    this.#sessions.get(session)?.matcher.dispose();
    this.#sessions.delete(session);
  }

  #session(session: number): Session {
    const found = this.#sessions.get(session);
    if (!found) throw new FaultError(`session ${session} is not open`, true);
    return found;
  }

  #must(): Ready {
    if (!this.#ready) throw new FaultError("there is no vocabulary yet", true);
    return this.#ready;
  }
}

function hasMarks(grammar: OutputGrammar): boolean {
  switch (grammar.kind) {
    case "mark":
      return true;
    case "sequence":
    case "either":
      return grammar.parts.some(hasMarks);
    case "list":
      return hasMarks(grammar.item) || hasMarks(grammar.between);
    case "json-object":
    case "json-schema":
    case "regex":
    case "ebnf":
    case "text":
      return false;
  }
}
