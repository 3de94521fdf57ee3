/** A chat's prompt as token ids, and where in an answer the model is then. */
import { type ChatMessage, type ChatTemplate, fillInMiddle, opensReasoning, type ReasoningStart, type Tokenizer } from "@shoal/tokenizer";
import { invalidField } from "./errors.ts";
import type { ChatRequest, ChatRequestMessage } from "./schemas/chat.ts";

export interface ChatPrompt {
  readonly ids: readonly number[];
  readonly reasoning: ReasoningStart;
}

/** @throws ApiError; TokenizerError whose field begins with `messages` */
export function chatPrompt(
  { messages, thinking, chat_template_kwargs: variables }: Pick<ChatRequest, "messages" | "thinking" | "chat_template_kwargs">,
  template: ChatTemplate,
  tokenizer: Tokenizer,
  tools: readonly unknown[] | undefined,
): ChatPrompt {
  checkPrefix(messages);
  checkResults(messages);
  const options = { addGenerationPrompt: true, thinking: thinkingOption(thinking?.type, template), tools, variables };
  const last = messages.at(-1);
  const prefix = last?.prefix === true ? last : undefined;
  const asked = inCallOrder(prefix ? messages.slice(0, -1) : messages).map(templateMessage);
  const ids = template.encodeChat(asked, options);
  // The end of the prompt is the template's own: what people wrote cannot stand there.
  const open = opensReasoning(tokenizer.decode(ids.slice(-8)));
  if (!prefix) return { ids, reasoning: open ? "open" : "detect" };
  return continued(ids, open, prefix, tokenizer);
}

/** @throws ApiError where the model has no tokens for filling in a middle */
export function fimPrompt(before: string | readonly number[], after: string, tokenizer: Tokenizer): readonly number[] {
  const ids = fillInMiddle(tokenizer, before, after);
  if (ids) return ids;
  throw invalidField(
    "suffix",
    "Cannot use 'suffix': this model has no tokens for filling in the middle, expected none",
    "unsupported_value",
  );
}

/** DeepSeek's chat prefix completion: the model goes on from what it is said to have said. */
function continued(ids: readonly number[], open: boolean, prefix: ChatRequestMessage, tokenizer: Tokenizer): ChatPrompt {
  const content = textOf(prefix);
  const reasoning = prefix.reasoning_content ?? "";
  const plain = (text: string): readonly number[] => tokenizer.encode(text, { allowControlTokens: false });
  if (reasoning === "" && !open) return { ids: [...ids, ...plain(content)], reasoning: content === "" ? "detect" : "none" };
  const begin = open ? [] : tokenizer.encode("<think>");
  const thought = [...ids, ...begin, ...plain(reasoning)];
  if (content === "") return { ids: thought, reasoning: "open" };
  return { ids: [...thought, ...tokenizer.encode("</think>"), ...plain(content)], reasoning: "none" };
}

function checkPrefix(messages: readonly ChatRequestMessage[]): void {
  const at = messages.findIndex(({ prefix }) => prefix === true);
  if (at < 0) return;
  const field = `messages[${at}].prefix`;
  if (at !== messages.length - 1) throw invalidField(field, `Cannot use '${field}': the message is not the last, expected it to be`);
  if (messages[at]?.role !== "assistant")
    throw invalidField(field, `Cannot use '${field}': the message's role is '${messages[at]?.role}', expected 'assistant'`);
  if (messages.length === 1) throw invalidField(field, `Cannot use '${field}': there is no message before it, expected one to answer`);
}

/** Results name calls of the answer before them. */
function checkResults(messages: readonly ChatRequestMessage[]): void {
  let ids: ReadonlySet<string> | undefined;
  for (const [i, { role, tool_calls: calls, tool_call_id: id }] of messages.entries()) {
    if (role === "assistant") ids = new Set(calls?.flatMap((call) => (call.id === undefined ? [] : [call.id])));
    else if (role !== "tool") ids = undefined;
    else if (ids === undefined)
      throw invalidField(
        `messages[${i}].role`,
        `Cannot use 'messages[${i}].role': it is that of a tool's result, expected an answer with 'tool_calls' before it`,
      );
    else if (id && ids.size > 0 && !ids.has(id))
      throw invalidField(
        `messages[${i}].tool_call_id`,
        `Cannot use 'messages[${i}].tool_call_id': no call before it has that id, expected one that has`,
      );
  }
}

/** Models know results by their order alone: those of one answer come in the order of its calls. */
function inCallOrder(messages: readonly ChatRequestMessage[]): readonly ChatRequestMessage[] {
  const ordered: ChatRequestMessage[] = [];
  let order: ReadonlyMap<string, number> = new Map();
  for (const message of messages) {
    if (message.role !== "tool") {
      order = new Map(message.tool_calls?.map(({ id }, place) => [id ?? "", place]));
      ordered.push(message);
      continue;
    }
    const place = order.get(message.tool_call_id ?? "") ?? Number.POSITIVE_INFINITY;
    let at = ordered.length;
    while (at > 0) {
      const before = ordered[at - 1];
      const other = before?.role === "tool" ? order.get(before.tool_call_id ?? "") : undefined;
      if (other === undefined || other <= place) break;
      at--;
    }
    ordered.splice(at, 0, message);
  }
  return ordered;
}

function thinkingOption(wish: "enabled" | "disabled" | undefined, { source }: ChatTemplate): boolean | undefined {
  if (wish === undefined) return undefined;
  if (/\bthinking\b/u.test(source)) return wish === "enabled";
  // A model that does not reason is asked for nothing that it does not do.
  if (wish === "disabled" && !source.includes("think")) return undefined;
  throw invalidField("thinking.type", `Cannot use 'thinking.type': this model's chat template has no such switch, expected none`);
}

function templateMessage({ role, name, content, reasoning_content, tool_calls, tool_call_id }: ChatRequestMessage): ChatMessage {
  return {
    // OpenAI's newer name for it.
    role: role === "developer" ? "system" : role,
    ...(content !== undefined && { content }),
    ...(typeof name === "string" && { name }),
    ...(typeof reasoning_content === "string" && { reasoning_content }),
    ...(tool_calls && { tool_calls }),
    ...(typeof tool_call_id === "string" && { tool_call_id }),
  };
}

function textOf({ content }: ChatRequestMessage): string {
  if (typeof content === "string") return content;
  return (content ?? []).map(({ text }) => text).join("");
}
