/** An answer's constraint: free until its beginning has come, then a session of its grammar. */
import { byteText, type TokenVocabulary } from "./vocabulary.ts";
import { GrammarClient, type GrammarClientOptions, type GrammarSession } from "./client.ts";
import type { ConstraintHearer, ConstraintSource, OutputConstraint, TokenConstraint } from "./grammar.ts";

/** Makes constraints for one vocabulary. */
export class GrammarConstraints implements ConstraintSource {
  readonly #client: GrammarClient;
  readonly #vocabulary: TokenVocabulary;

  constructor(options: GrammarClientOptions) {
    this.#client = new GrammarClient(options);
    this.#vocabulary = options.vocabulary;
  }

  /** Its grammar begins to be compiled at once. @throws EngineError */
  open(constraint: OutputConstraint, hearer: ConstraintHearer): TokenConstraint {
    return new ConstrainedAnswer(this.#client, this.#vocabulary, constraint, hearer);
  }

  /** Ends the thread of the grammars. */
  destroy(): void {
    this.#client.destroy();
  }
}

class ConstrainedAnswer implements TokenConstraint {
  readonly #session: GrammarSession;
  readonly #tokens: TokenVocabulary["tokens"];
  /** What is still to come before the grammar: a mark's token, or bytes. */
  readonly #after: (number | string)[];
  /** The end of what was written, as far as a beginning may lie in it. */
  #tail = "";
  #mask: Uint32Array<ArrayBuffer> | undefined;
  #ahead: readonly Uint32Array<ArrayBuffer>[] | undefined;
  /** Tokens that follow the grammar and that it does not know of yet. */
  #taken: number[] = [];

  constructor(
    client: GrammarClient,
    { tokens, marks }: TokenVocabulary,
    { grammar, after = [] }: OutputConstraint,
    hearer: ConstraintHearer,
  ) {
    this.#tokens = tokens;
    this.#after = after.map((text) => marks[text] ?? byteText(new TextEncoder().encode(text)));
    this.#session = client.open(grammar, {
      onMask: (mask) => {
        this.#mask = mask;
        hearer.onMask();
      },
      onAhead: (masks) => {
        this.#ahead = masks;
        hearer.onMask();
      },
      onError: hearer.onError,
    });
    this.#session.accept([]);
  }

  get binding(): boolean {
    return this.#after.length === 0;
  }

  get mask(): Uint32Array<ArrayBuffer> | undefined {
    return this.#mask;
  }

  get ahead(): readonly Uint32Array<ArrayBuffer>[] | undefined {
    return this.#ahead;
  }

  accept(id: number): void {
    const [next] = this.#after;
    if (next === undefined) {
      this.#mask = undefined;
      this.#ahead = undefined;
      this.#taken.push(id);
    } else if (typeof next === "number") {
      if (id === next) this.#after.shift();
    } else {
      this.#tail += this.#tokens[id] ?? "";
      if (this.#tail.includes(next)) {
        this.#after.shift();
        this.#tail = "";
      } else this.#tail = this.#tail.slice(-next.length);
    }
  }

  prepare(): void {
    if (this.#taken.length === 0) return;
    this.#session.accept(this.#taken);
    this.#taken = [];
  }

  lookAhead(ids: readonly number[]): void {
    this.#session.lookAhead(ids);
  }

  close(): void {
    this.#session.close();
  }
}
