/**
 * What an answer must spell, as plain data: it goes to a worker. Texts are those of tokens; a mark is a control token of the tokenizer (a tool call's, for instance), which
 * is written as that token and never spelled, where the vocabulary has it, and as its text where not.
 */
export type OutputGrammar =
  /** Any JSON object. */
  | { readonly kind: "json-object" }
  /** JSON that follows a schema, given as JSON text. `compact`: on one line, as Python's json.dumps writes it; else with some white space. */
  | { readonly kind: "json-schema"; readonly schema: string; readonly compact?: boolean }
  | { readonly kind: "regex"; readonly pattern: string }
  /** GBNF-like text with a rule named `root`, as xgrammar reads it. */
  | { readonly kind: "ebnf"; readonly text: string }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "mark"; readonly text: string }
  | { readonly kind: "sequence"; readonly parts: readonly OutputGrammar[] }
  | { readonly kind: "either"; readonly parts: readonly OutputGrammar[] }
  /** One or more of `item`, with `between` between them. */
  | { readonly kind: "list"; readonly item: OutputGrammar; readonly between: OutputGrammar };

export interface OutputConstraint {
  readonly grammar: OutputGrammar;
  /** The answer is free until these texts have come, one after the other, and only then follows the grammar: the end of reasoning, or the mark of a call. */
  readonly after?: readonly string[];
}

/** One answer's way through its grammar, as the engine sees it. */
export interface TokenConstraint {
  /** Whether the next token must follow the grammar. Known at once, whereas its mask takes a while. */
  readonly binding: boolean;
  /** Which tokens the next one may be: a bit an id, lowest first; undefined while it is computed. Only asked for where `binding`. */
  readonly mask: Uint32Array<ArrayBuffer> | undefined;
  /** Takes a token that was chosen: the mask is another one's from then on. */
  accept(id: number): void;
  /** Begins to compute the mask of the token after those that were taken. */
  prepare(): void;
  /** After `prepare`: begins to compute the masks after each of these tokens, which may come or not. */
  lookAhead(ids: readonly number[]): void;
  /** A mask after each of the tokens looked ahead at, up to the first that may not follow or that ends the answer; undefined while they are computed, and after `accept`. */
  readonly ahead: readonly Uint32Array<ArrayBuffer>[] | undefined;
  close(): void;
}

export interface ConstraintHearer {
  /** A mask is there, or those looked ahead at. */
  readonly onMask: () => void;
  /** The answer cannot go on: an EngineError. */
  readonly onError: (error: Error) => void;
}

export interface ConstraintSource {
  open(constraint: OutputConstraint, hearer: ConstraintHearer): TokenConstraint;
}
