/**
 * A chat as the one string, or the ids, that the model was trained on: the checkpoint's Jinja template, or a built-in one of its family.
 * What users write stays text: by default a `<｜Assistant｜>` typed into a message does not become the token (`allowSpecialInContent` gives
 * DeepSeek's own behaviour, where it does). Reading answers back (reasoning, tool calls) is not this module's.
 */
import { Template } from "@huggingface/jinja";
import { AddedTokenFinder, isControlToken } from "./added-tokens.ts";
import { type ChatMessage, normalizeMessages, type TemplateMessage } from "./chat-message.ts";
import { describe, TokenizerError } from "./error.ts";
import { chooseShield, mapStrings, shieldText } from "./shield.ts";
import { familyOf, familyTemplates, type TemplateFamily } from "./templates/families.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { ToolFormat } from "./tool-format.ts";

const maxSourceLength = 256 * 1024;
/** In an answer of the model these are the model's own; templates look for them to cut reasoning off. */
const reasoningTags: readonly string[] = ["<think>", "</think>"];

export interface ChatTemplateSource {
  /** Jinja text, for instance of a chat_template.jinja beside the weights. First choice. */
  readonly source?: string | undefined;
  /** The built-in template to take when neither `source` nor tokenizer_config.json has one. Default "v3". */
  readonly family?: TemplateFamily | undefined;
}

export interface ChatOptions {
  /** End with the mark after which the model answers. */
  readonly addGenerationPrompt: boolean;
  readonly tools?: readonly unknown[] | undefined;
  /** Whether the model is to reason first, for models that can do either (V3.1). */
  readonly thinking?: boolean | undefined;
  /** Further variables for the template. */
  readonly variables?: Readonly<Record<string, unknown>> | undefined;
}

export interface EncodeChatOptions extends ChatOptions {
  /** Let the text of a control token inside messages, tools and variables become that token. Default false. */
  readonly allowSpecialInContent?: boolean | undefined;
}

export function loadChatTemplate(tokenizer: Tokenizer, from: ChatTemplateSource = {}): ChatTemplate {
  return new ChatTemplate(tokenizer, from.source ?? tokenizer.chatTemplate ?? familyTemplates[from.family ?? "v3"]);
}

interface Inputs {
  readonly messages: readonly TemplateMessage[];
  readonly tools: readonly unknown[] | null;
  readonly variables: Readonly<Record<string, unknown>>;
}

export class ChatTemplate {
  readonly source: string;
  /** How the model is shown tool calls, and so writes them. */
  readonly toolFormat: ToolFormat;
  readonly #tokenizer: Tokenizer;
  readonly #template: Template;
  /** For chats with tools: the same, or its family's where that does not show tools to the model. */
  readonly #toolTemplate: Template;
  readonly #controls: AddedTokenFinder;

  constructor(tokenizer: Tokenizer, source: string) {
    if (source.length > maxSourceLength) {
      throw new TokenizerError("read the chat template", "its text", `${source.length} characters`, `at most ${maxSourceLength}`);
    }
    this.source = source;
    const toolSource = /\btools\b/u.test(source) ? source : familyTemplates[familyOf(source)];
    this.toolFormat = toolSource.includes("```json") ? "v3" : "v3.1";
    this.#tokenizer = tokenizer;
    this.#controls = new AddedTokenFinder([...tokenizer.addedTokens.values()].filter(isControlToken));
    try {
      this.#template = new Template(source);
      this.#toolTemplate = toolSource === source ? this.#template : new Template(toolSource);
    } catch (cause) {
      throw new TokenizerError("read the chat template", "its text", describe(String(cause)), "a Jinja template", cause);
    }
  }

  /** The prompt as text, BOS included where the template writes it: encode it without adding special tokens. */
  applyChatTemplate(messages: readonly ChatMessage[], options: ChatOptions): string {
    return this.#render(this.#inputs(messages, options), options);
  }

  /** The prompt as ids. BOS is there once: nothing is added to what the template writes. */
  encodeChat(messages: readonly ChatMessage[], options: EncodeChatOptions): number[] {
    const inputs = this.#inputs(messages, options);
    const text = this.#render(inputs, options);
    if (options.allowSpecialInContent === true) return this.#tokenizer.encode(text);
    const shield = chooseShield(inputs);
    const shielded = this.#render(this.#shield(inputs, shield), options);
    if (shielded.replaceAll(shield, "") !== text) {
      throw new TokenizerError(
        "keep control tokens in the messages as plain text",
        "the chat template",
        "one that changes the text of messages",
        "one that copies it (or set allowSpecialInContent)",
      );
    }
    return this.#tokenizer.encode(shielded, { shield });
  }

  #inputs(messages: readonly ChatMessage[], options: ChatOptions): Inputs {
    const normalized = normalizeMessages(messages);
    const tools = options.tools === undefined || options.tools.length === 0 ? null : options.tools;
    const variables = { ...options.variables, ...(options.thinking === undefined ? {} : { thinking: options.thinking }) };
    return { messages: normalized, tools, variables };
  }

  #shield(inputs: Inputs, shield: string): Inputs {
    const replace = (exempt: readonly string[]) => (text: string) => shieldText(text, this.#controls, shield, exempt);
    const shieldAll = replace([]);
    return {
      messages: inputs.messages.map(
        (message) => mapStrings(message, message.role === "assistant" ? replace(reasoningTags) : shieldAll) as TemplateMessage,
      ),
      tools: inputs.tools && inputs.tools.map((tool) => mapStrings(tool, shieldAll)),
      variables: mapStrings(inputs.variables, shieldAll) as Readonly<Record<string, unknown>>,
    };
  }

  #render(inputs: Inputs, options: ChatOptions): string {
    let text: unknown;
    const template = inputs.tools !== null || inputs.messages.some(usesTools) ? this.#toolTemplate : this.#template;
    try {
      text = template.render({
        ...inputs.variables,
        messages: inputs.messages,
        tools: inputs.tools,
        add_generation_prompt: options.addGenerationPrompt,
        bos_token: this.#tokenizer.bosToken ?? this.#knownToken("<｜begin▁of▁sentence｜>"),
        eos_token: this.#tokenizer.eosToken ?? this.#knownToken("<｜end▁of▁sentence｜>"),
      });
    } catch (cause) {
      throw new TokenizerError("render the chat", "the chat template", `failing with ${describe(String(cause))}`, "a prompt", cause);
    }
    if (typeof text !== "string") throw new TokenizerError("render the chat", "its prompt", describe(text), "a string");
    return text;
  }

  /** For checkpoints without tokenizer_config.json: DeepSeek's marks, if the vocabulary has them. */
  #knownToken(content: string): string {
    return this.#tokenizer.addedTokens.has(content) ? content : "";
  }
}

function usesTools(message: TemplateMessage): boolean {
  const calls = message["tool_calls"];
  return message.role === "tool" || (Array.isArray(calls) && calls.length > 0);
}
