/** The embedded model's tokenizer and template. */
import { readFileSync } from "node:fs";
import { tinyModelUrl } from "@shoal/tiny-model";
import { type ChatTemplate, type Tokenizer, loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";

const text = (name: string): string => readFileSync(new URL(name, tinyModelUrl), "utf8");

/** With DeepSeek's tokens for filling in the middle, after all others: hole, begin, end. */
export function withFim(): Tokenizer {
  const json = JSON.parse(text("tokenizer.json")) as { added_tokens: { id: number; content: string }[] };
  const begin = Math.max(...json.added_tokens.map(({ id }) => id), 4095) + 1;
  for (const [index, content] of ["<｜fim▁hole｜>", "<｜fim▁begin｜>", "<｜fim▁end｜>"].entries())
    json.added_tokens.push({ ...json.added_tokens[0], id: begin + index, content });
  return loadTokenizer({ tokenizerJson: JSON.stringify(json), tokenizerConfigJson: text("tokenizer_config.json") });
}

export function loadTinyTokenizer(): { readonly tokenizer: Tokenizer; readonly template: ChatTemplate } {
  const tokenizer = loadTokenizer({ tokenizerJson: text("tokenizer.json"), tokenizerConfigJson: text("tokenizer_config.json") });
  return { tokenizer, template: loadChatTemplate(tokenizer, {}) };
}
