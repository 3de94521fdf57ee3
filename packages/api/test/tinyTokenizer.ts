/** The embedded model's tokenizer and template. */
import { readFileSync } from "node:fs";
import { tinyModelUrl } from "@shoal/tiny-model";
import { type ChatTemplate, type Tokenizer, loadChatTemplate, loadTokenizer } from "@shoal/tokenizer";

export function loadTinyTokenizer(): { readonly tokenizer: Tokenizer; readonly template: ChatTemplate } {
  const text = (name: string): string => readFileSync(new URL(name, tinyModelUrl), "utf8");
  const tokenizer = loadTokenizer({ tokenizerJson: text("tokenizer.json"), tokenizerConfigJson: text("tokenizer_config.json") });
  return { tokenizer, template: loadChatTemplate(tokenizer, {}) };
}
