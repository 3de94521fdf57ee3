/** What is said to whoever keeps grammars, in this thread or in a worker, and what comes back. Calls are answered in their order. Everything here can be cloned. */
import type { OutputGrammar } from "./grammar.ts";
import type { TokenVocabulary } from "./vocabulary.ts";

export type GrammarCall =
  /** The first. */
  | { readonly kind: "vocabulary"; readonly vocabulary: TokenVocabulary }
  /** Begins a session, after tokens that it has chosen already. */
  | { readonly kind: "open"; readonly session: number; readonly grammar: OutputGrammar; readonly ids: readonly number[] }
  | { readonly kind: "accept"; readonly session: number; readonly ids: readonly number[] }
  /** Of tokens that may follow, or not: the session stays where it is. */
  | { readonly kind: "ahead"; readonly session: number; readonly ids: readonly number[] }
  | { readonly kind: "close"; readonly session: number };

export interface GrammarReply {
  /** For `open` and `accept`: of the next token. */
  readonly mask?: Uint32Array<ArrayBuffer>;
  /** For `ahead`: after each of the tokens, up to the first that does not follow or that ends the text. */
  readonly ahead?: readonly Uint32Array<ArrayBuffer>[];
  readonly error?: GrammarFault;
}

export interface GrammarFault {
  /** "the regex is not one: ..." */
  readonly message: string;
  /** Nothing more is to be had from this side: it must be begun anew. */
  readonly fatal: boolean;
}

/** The way to whoever keeps grammars. */
export interface GrammarPort {
  send(call: GrammarCall): void;
  /** @param onDeath no reply will come any more */
  hear(onReply: (reply: GrammarReply) => void, onDeath: (reason: unknown) => void): void;
  /** Ends it, whatever it is doing. */
  end(): void;
}
