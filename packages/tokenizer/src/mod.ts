export type { AddedToken } from "./added-tokens.ts";
export type { ChatContentPart, ChatMessage, ChatRole } from "./chat-message.ts";
export { type ChatOptions, ChatTemplate, type ChatTemplateSource, type EncodeChatOptions, loadChatTemplate } from "./chat-template.ts";
export { type DecodeOptions, IncrementalDetokenizer, type TokenBytes } from "./detokenizer.ts";
export { TokenizerError } from "./error.ts";
export type { TemplateFamily } from "./templates/families.ts";
export { type EncodeOptions, loadTokenizer, Tokenizer, type TokenizerFiles } from "./tokenizer.ts";
export { type AnswerText, opensReasoning, ReasoningSplitter, type ReasoningStart } from "./reasoning.ts";
