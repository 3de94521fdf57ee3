/**
 * A byte-level BPE tokenizer: text to ids and back, exactly as Hugging Face's tokenizers library computes them from the same tokenizer.json.
 * Token ids are those of the file; models often have more rows than that (DeepSeek-V3: 129,280 rows for 128,815 tokens), and an id without a
 * token stands for no bytes. Knows nothing of chats.
 */
import { type AddedToken, AddedTokenFinder, isControlToken, type Section } from "./added-tokens.ts";
import { BytePairEncoder } from "./bpe.ts";
import { type DecodeOptions, IncrementalDetokenizer } from "./detokenizer.ts";
import { describe, TokenizerError } from "./error.ts";
import { parseTokenizerConfig, type TokenizerConfig } from "./tokenizer-config.ts";
import { parseTokenizerJson, type TokenizerTables } from "./tokenizer-json.ts";

/** In UTF-16 units; longer text is refused. A context of 131,072 tokens holds some 500,000 units of prose. */
const maxTextLength = 4 * 1024 * 1024;

export interface TokenizerFiles {
  readonly tokenizerJson: string;
  readonly tokenizerConfigJson?: string | undefined;
}

export interface EncodeOptions {
  /** Put BOS and EOS around the text as the checkpoint's files say. A BOS that the text brings along is not doubled. Default false. */
  readonly addSpecialTokens?: boolean;
  /** Take `<｜User｜>` and the like in the text for tokens (default), or for plain characters. */
  readonly allowControlTokens?: boolean;
  /** A character that stands inside texts that must not become tokens; it is taken out once tokens have been found. See shield.ts. */
  readonly shield?: string | undefined;
}

export function loadTokenizer(files: TokenizerFiles): Tokenizer {
  const config = files.tokenizerConfigJson === undefined ? undefined : parseTokenizerConfig(files.tokenizerConfigJson);
  return new Tokenizer(parseTokenizerJson(files.tokenizerJson), config);
}

export class Tokenizer {
  /** One more than the highest token id. */
  readonly vocabSize: number;
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  /** Every token that is found in text as a whole, by its text. */
  readonly addedTokens: ReadonlyMap<string, AddedToken>;
  /** Those of them that steer the model, `<｜User｜>` included, with their ids. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** The checkpoint's own chat template, if tokenizer_config.json has one. */
  readonly chatTemplate: string | undefined;

  readonly #tables: TokenizerTables;
  readonly #encoder: BytePairEncoder;
  readonly #beforeNormalizing: { readonly all: AddedTokenFinder; readonly plain: AddedTokenFinder };
  readonly #afterNormalizing: { readonly all: AddedTokenFinder; readonly plain: AddedTokenFinder };
  readonly #flaggedSpecial: ReadonlySet<number>;
  readonly #prefixIds: readonly number[];
  readonly #suffixIds: readonly number[];

  /** `loadTokenizer` is the way in; this takes what it has checked. */
  constructor(tables: TokenizerTables, config: TokenizerConfig | undefined) {
    this.#tables = tables;
    this.#encoder = new BytePairEncoder(tables.bpe);
    this.vocabSize = tables.vocabSize;
    this.addedTokens = new Map(tables.addedTokens.map((token) => [token.content, token]));
    this.specialTokens = new Map(tables.addedTokens.filter(isControlToken).map((token) => [token.content, token.id]));
    this.#flaggedSpecial = new Set(tables.addedTokens.filter((token) => token.special).map((token) => token.id));

    const first = tables.addedTokens.filter((token) => !token.normalized);
    const second = tables.addedTokens
      .filter((token) => token.normalized)
      .map((token) => ({ ...token, content: tables.normalize(token.content) }));
    const finders = (tokens: readonly AddedToken[]) => ({
      all: new AddedTokenFinder(tokens),
      plain: new AddedTokenFinder(tokens.filter((token) => !isControlToken(token))),
    });
    this.#beforeNormalizing = finders(first);
    this.#afterNormalizing = finders(second);

    this.bosToken = config?.bosToken;
    this.eosToken = config?.eosToken;
    this.bosTokenId = this.#configuredId("bos_token", this.bosToken);
    this.eosTokenId = this.#configuredId("eos_token", this.eosToken);
    this.chatTemplate = config?.chatTemplate;
    this.#prefixIds = ownOrDefault(config?.addBosToken, this.bosTokenId, tables.prefixIds);
    this.#suffixIds = ownOrDefault(config?.addEosToken, this.eosTokenId, tables.suffixIds);
  }

  encode(text: string, options: EncodeOptions = {}): number[] {
    if (typeof text !== "string") throw new TokenizerError("encode text", "the text", describe(text), "a string");
    if (text.length > maxTextLength) {
      throw new TokenizerError("encode text", "the text", `${text.length} characters`, `at most ${maxTextLength}`);
    }
    const which = options.allowControlTokens === false ? "plain" : "all";
    const ids: number[] = [];
    // A lone surrogate is no character: it becomes U+FFFD, as it would in any UTF-8 file.
    for (const section of this.#beforeNormalizing[which].split(text.toWellFormed())) {
      if (typeof section !== "string") ids.push(section.id);
      else this.#encodeSections(this.#afterNormalizing[which].split(this.#tables.normalize(section)), options.shield, ids);
    }
    if (options.addSpecialTokens === true) {
      if (!this.#prefixIds.every((id, i) => ids[i] === id)) ids.unshift(...this.#prefixIds);
      ids.push(...this.#suffixIds);
    }
    return ids;
  }

  #encodeSections(sections: readonly Section[], shield: string | undefined, ids: number[]): void {
    for (const section of sections) {
      if (typeof section !== "string") {
        ids.push(section.id);
        continue;
      }
      const plain = shield === undefined ? section : section.replaceAll(shield, "");
      if (plain === "") continue;
      for (const piece of this.#tables.preTokenize([plain])) this.#encoder.encodeInto(piece, ids);
    }
  }

  /** The text of all ids; bytes that are no UTF-8 become U+FFFD. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    const detokenizer = new IncrementalDetokenizer(this, options);
    let text = "";
    for (const id of ids) text += detokenizer.push(id);
    return text + detokenizer.finish();
  }

  /** The bytes a token stands for, which need not be whole characters; none for an id without a token. */
  tokenBytes(id: number): Uint8Array {
    if (!Number.isInteger(id) || id < 0) throw new TokenizerError("decode a token", "its id", describe(id), "a non-negative integer");
    const { bytes, byteOffsets } = this.#tables;
    return id < this.vocabSize ? bytes.slice(byteOffsets[id], byteOffsets[id + 1]) : new Uint8Array(0);
  }

  /** The id of a vocabulary entry that is found in text as a whole, such as `<｜User｜>`. */
  addedTokenId(content: string): number | undefined {
    return this.addedTokens.get(content)?.id;
  }

  /** Whether `skipSpecialTokens` leaves the token out: what the file flags so, which in DeepSeek-V3 are BOS, EOS and padding, not the roles. */
  isSpecial(id: number): boolean {
    return this.#flaggedSpecial.has(id);
  }

  #configuredId(field: string, token: string | undefined): number | undefined {
    if (token === undefined) return undefined;
    const id = this.addedTokenId(token);
    if (id === undefined) {
      throw new TokenizerError("read tokenizer_config.json", field, describe(token), "one of tokenizer.json's added_tokens");
    }
    return id;
  }
}

/** A flag of tokenizer_config.json wins over tokenizer.json's post-processor; without one, the latter holds. */
function ownOrDefault(flag: boolean | undefined, id: number | undefined, fallback: readonly number[]): readonly number[] {
  if (flag === undefined) return fallback;
  return flag && id !== undefined ? [id] : [];
}
