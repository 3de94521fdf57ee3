/** The part of tokenizer_config.json, untrusted, that bears on ids and prompts: BOS, EOS, who adds them, and the chat template. */
import { asArray, asFlag, asObject, asString, at, fail, parseObject, type Place } from "./json.ts";

const maxFileLength = 16 * 1024 * 1024;
const maxTemplateLength = 256 * 1024;
const maxTokenLength = 4096;

export interface TokenizerConfig {
  readonly bosToken: string | undefined;
  readonly eosToken: string | undefined;
  /** undefined: the file does not say, and tokenizer.json's post-processor decides. */
  readonly addBosToken: boolean | undefined;
  readonly addEosToken: boolean | undefined;
  readonly chatTemplate: string | undefined;
}

export function parseTokenizerConfig(text: string): TokenizerConfig {
  const place: Place = { action: "read tokenizer_config.json", field: "the file" };
  const root = parseObject(text, maxFileLength, place);
  const top = { ...place, field: "" };
  const flag = (key: string): boolean | undefined => (root[key] === undefined ? undefined : asFlag(root[key], at(top, key)));
  return {
    bosToken: parseToken(root["bos_token"], at(top, "bos_token")),
    eosToken: parseToken(root["eos_token"], at(top, "eos_token")),
    addBosToken: flag("add_bos_token"),
    addEosToken: flag("add_eos_token"),
    chatTemplate: parseChatTemplate(root["chat_template"], at(top, "chat_template")),
  };
}

/** A token is written as its text or as an object with `content`. */
function parseToken(value: unknown, place: Place): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return asString(value, maxTokenLength, place);
  return asString(asObject(value, place)["content"], maxTokenLength, at(place, "content"));
}

/** One template, or several with names, of which the one called "default" is meant. */
function parseChatTemplate(value: unknown, place: Place): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "string") return asString(value, maxTemplateLength, place);
  const templates = asArray(value, 64, place);
  for (const [i, item] of templates.entries()) {
    const entry = asObject(item, at(place, i));
    if (entry["name"] === "default") return asString(entry["template"], maxTemplateLength, at(at(place, i), "template"));
  }
  return fail(place, value, 'a list with a template named "default"');
}
