/**
 * Writes a grammar as one EBNF text. Schemas, regexes and texts of strangers are read by an instance of xgrammar apart from the one that others' grammars are compiled by: what
 * is wrong in them makes its C++ give up.
 */
import { loadXgrammar } from "#xgrammar";
import { lastRule, literal, renameRules, type Rules } from "./ebnf.ts";
import type { OutputGrammar } from "./grammar.ts";
import { FaultError, XgrammarInstance } from "./instance.ts";
import { plainPattern } from "./pattern.ts";
import { markText, type TokenVocabulary } from "./vocabulary.ts";

/** White space between two parts of JSON at most: a line break and some levels of indentation. Without a bound a model may write nothing else. */
const MOST_WHITE_SPACE = 24;

export class EbnfWriter {
  readonly #vocabulary: Pick<TokenVocabulary, "marks">;
  readonly #main: XgrammarInstance;
  #reader: XgrammarInstance | undefined;

  /** @param main is not used, but for telling whether the reader is apart from it */
  constructor(vocabulary: Pick<TokenVocabulary, "marks">, main: XgrammarInstance) {
    this.#vocabulary = vocabulary;
    this.#main = main;
  }

  /** With `root` as the rule to begin with. @throws FaultError */
  async write(grammar: OutputGrammar): Promise<string> {
    const rules: string[] = [];
    const root = await this.#expression(grammar, rules);
    return `${rules.join("\n")}\nroot ::= ${root}\n`;
  }

  /** What stands for a grammar in the body of a rule; rules that it needs are added. */
  async #expression(grammar: OutputGrammar, rules: string[]): Promise<string> {
    switch (grammar.kind) {
      case "text":
        return literal(grammar.text);
      case "mark":
        return literal(markText(this.#vocabulary, grammar.text));
      case "sequence":
        return `(${(await this.#expressions(grammar.parts, rules)).join(" ")})`;
      case "either":
        return `(${(await this.#expressions(grammar.parts, rules)).join(" | ")})`;
      case "list": {
        const item = rule(await this.#expression(grammar.item, rules), rules);
        const between = await this.#expression(grammar.between, rules);
        return `(${item} (${between} ${item})*)`;
      }
      case "json-object":
      case "json-schema":
      case "regex":
      case "ebnf": {
        const { text, root } = await this.#read(grammar);
        const prefix = `part${rules.length}_`;
        rules.push(renameRules(text, prefix));
        return prefix + root;
      }
    }
  }

  async #expressions(parts: readonly OutputGrammar[], rules: string[]): Promise<readonly string[]> {
    if (parts.length === 0) throw new FaultError("a part of it is empty");
    const expressions: string[] = [];
    for (const part of parts) expressions.push(await this.#expression(part, rules));
    return expressions;
  }

  async #read(grammar: OutputGrammar & { readonly kind: "json-object" | "json-schema" | "regex" | "ebnf" }): Promise<Rules> {
    if (patternsOf(grammar).some((pattern) => CLASS_BEYOND_ASCII.test(pattern)))
      throw new FaultError("a class '[...]' of it has characters beyond ASCII, which cannot be followed, expected only ASCII there");
    const reader = (this.#reader ??= await XgrammarInstance.load(loadXgrammar));
    try {
      return await reader.call(
        grammar.kind === "regex" ? "the regex" : grammar.kind === "ebnf" ? "the grammar" : "the schema",
        async ({ Grammar }) => {
          const text = (made: { toString(): string; dispose(): void }): string => {
            const printed = made.toString();
            made.dispose();
            return printed;
          };
          switch (grammar.kind) {
            case "json-object":
              return {
                text: text(await Grammar.fromJSONSchema('{"type":"object"}', true, -1, undefined, false, MOST_WHITE_SPACE)),
                root: "root",
              };
            case "json-schema":
              return {
                text: text(
                  grammar.compact === true
                    ? await Grammar.fromJSONSchema(grammar.schema, false, -1, [", ", ": "], true)
                    : await Grammar.fromJSONSchema(grammar.schema, true, -1, undefined, true, MOST_WHITE_SPACE),
                ),
                root: "root",
              };
            case "regex": {
              const made = text(
                await Grammar.fromStructuralTag({ type: "regex", pattern: plainPattern(grammar.pattern) ?? grammar.pattern }),
              );
              return { text: made, root: lastRule(made) };
            }
            case "ebnf":
              return { text: text(await Grammar.fromEBNF(grammar.text)), root: "root" };
          }
        },
      );
    } catch (error) {
      this.#reader = undefined;
      if (error instanceof FaultError && error.fatal && !reader.isSame(this.#main)) throw new FaultError(error.message);
      throw error;
    }
  }
}

/** See pattern.ts. */
const CLASS_BEYOND_ASCII = /\[(?:[^\]\\]|\\.)*?(?:[^\0-\x7f]|\\u(?!00[0-7])|\\U|\\x[89a-fA-F])/;

/** What of a grammar may hold classes of characters that were not put into ranges. */
function patternsOf(grammar: OutputGrammar): readonly string[] {
  if (grammar.kind === "regex") return plainPattern(grammar.pattern) === undefined ? [grammar.pattern] : [];
  return grammar.kind === "ebnf" ? [grammar.text] : [];
}

function rule(expression: string, rules: string[]): string {
  const name = `part${rules.length}`;
  rules.push(`${name} ::= ${expression}`);
  return name;
}
