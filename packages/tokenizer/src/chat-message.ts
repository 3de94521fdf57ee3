/**
 * Chat messages as they come in, and as templates read them: names of the OpenAI wire format, `content` always one string or null. Messages
 * come from outside; whatever is wrong in one is a `TokenizerError` with its place. Tool calls are passed on unread.
 */
import { asArray, asObject, asString, at, fail, type JsonObject, type Place } from "./json.ts";

export type ChatRole = "system" | "user" | "assistant" | "tool";

export interface ChatContentPart {
  readonly type: "text";
  readonly text: string;
}

export interface ChatMessage {
  readonly role: ChatRole;
  readonly content?: string | null | readonly ChatContentPart[];
  readonly name?: string;
  readonly reasoning_content?: string | null;
  readonly tool_calls?: readonly unknown[] | null;
  readonly tool_call_id?: string;
}

/** A message as a template sees it. */
export interface TemplateMessage {
  readonly role: ChatRole;
  readonly content: string | null;
  readonly [field: string]: unknown;
}

const maxMessages = 65_536;
const maxContentLength = 4 * 1024 * 1024;
const roles: readonly string[] = ["system", "user", "assistant", "tool"] satisfies readonly ChatRole[];
const passedOn = ["name", "reasoning_content", "tool_calls", "tool_call_id"] as const;

export function normalizeMessages(messages: readonly ChatMessage[]): TemplateMessage[] {
  const place: Place = { action: "render the chat", field: "messages" };
  return asArray(messages, maxMessages, place).map((item, i) => {
    const messagePlace = at(place, i);
    const message = asObject(item, messagePlace);
    const role = message["role"];
    if (typeof role !== "string" || !roles.includes(role))
      fail(at(messagePlace, "role"), role, roles.map((name) => `"${name}"`).join(" or "));
    const content = joinContent(message["content"], at(messagePlace, "content"));
    const extras: Record<string, unknown> = {};
    for (const field of passedOn) if (message[field] !== undefined) extras[field] = message[field];
    // Only an answer may have no text at all, when it consists of tool calls; templates skip or expect null there.
    return { ...extras, role: role as ChatRole, content: role === "assistant" ? content : (content ?? "") };
  });
}

function joinContent(value: unknown, place: Place): string | null {
  if (value === undefined || value === null) return null;
  if (typeof value === "string") return asString(value, maxContentLength, place).toWellFormed();
  const parts = asArray(value, maxMessages, place).map((item, i) => textOfPart(asObject(item, at(place, i)), at(place, i)));
  return asString(parts.join(""), maxContentLength, place).toWellFormed();
}

function textOfPart(part: JsonObject, place: Place): string {
  if (part["type"] !== "text") fail(at(place, "type"), part["type"], '"text" (these models read nothing else)');
  return asString(part["text"], maxContentLength, at(place, "text"));
}
