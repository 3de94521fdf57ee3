/**
 * Conversations to and from the outside: files, and IndexedDB, whose data an older version may have written. What is wrong in any place is refused whole, with the
 * place named.
 */
import { type AnswerEnd, type AnswerStats, type Conversation, type Message, type Role, type ToolCall, shownPath } from "./tree.ts";

export class ImportError extends Error {
  override readonly name = "ImportError";
}

const FORMAT = "shoal-conversations";
const VERSION = 2;
const MAX_CONVERSATIONS = 10_000;
const MAX_MESSAGES = 20_000;
const MAX_TEXT = 4 * 2 ** 20;
const MAX_ID = 100;
const MAX_TOOL_CALLS = 128;
export const MAX_TITLE = 200;
export const MAX_IMPORT_BYTES = 64 * 2 ** 20;

const ROLES: readonly Role[] = ["user", "assistant", "tool"];
const ENDS: readonly AnswerEnd[] = ["stop", "length", "tool_calls", "stopped", "failed"];

export function toJson(conversations: readonly Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 2);
}

/** The path that is on the page. */
export function toMarkdown(conversation: Conversation): string {
  const parts = shownPath(conversation).map(({ role, content, reasoning, toolCalls = [] }) => {
    const heading = role === "user" ? "You" : role === "tool" ? "Result of a tool" : "Model";
    const thought = reasoning === undefined || reasoning === "" ? [] : [reasoning.trim().replaceAll(/^/gm, "> ")];
    const calls = toolCalls.map(({ name, arguments: given }) => `Calls \`${name}\`:\n\n${fenced(given, "json")}`);
    const said = content === "" ? [] : [role === "tool" ? fenced(content, "") : content];
    return [`## ${heading}`, ...thought, ...said, ...calls].join("\n\n");
  });
  return `${[`# ${conversation.title}`, ...parts].join("\n\n")}\n`;
}

/** With a fence longer than any in the text. */
function fenced(text: string, language: string): string {
  const longest = Math.max(2, ...[...text.matchAll(/`+/g)].map(([run]) => run.length));
  const fence = "`".repeat(longest + 1);
  return `${fence}${language}\n${text}\n${fence}`;
}

/** What `toJson` wrote, under new ids. @throws ImportError */
export function fromJson(text: string): readonly Conversation[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ImportError("Cannot import the file: it is not JSON, expected one that 'Export' wrote");
  }
  const file = record(json, "the file");
  if (file["format"] !== FORMAT) throw wrong("format", `'${FORMAT}'`);
  if (file["version"] !== VERSION) throw wrong("version", `${VERSION}`);
  return list(file["conversations"], "conversations", MAX_CONVERSATIONS).map((item, index) => ({
    ...conversationOf(item, `conversations[${index}]`),
    id: crypto.randomUUID(),
  }));
}

/** @throws ImportError */
export function conversationOf(value: unknown, place: string): Conversation {
  const { id, title, createdAt, updatedAt, messages, shown } = record(value, place);
  const known = new Set<string>();
  const read = list(messages, `${place}.messages`, MAX_MESSAGES).map((item, index) => {
    const message = messageOf(item, `${place}.messages[${index}]`);
    // Parents come first, so that there are no circles.
    if (message.parent !== null && !known.has(message.parent))
      throw wrong(`${place}.messages[${index}].parent`, "null, or the id of a message before");
    if (known.has(message.id)) throw wrong(`${place}.messages[${index}].id`, "another than those before");
    known.add(message.id);
    return message;
  });
  if (shown !== null && !(typeof shown === "string" && known.has(shown))) throw wrong(`${place}.shown`, "null, or the id of a message");
  return {
    id: string(id, `${place}.id`, MAX_ID),
    title: string(title, `${place}.title`, MAX_TITLE),
    createdAt: amount(createdAt, `${place}.createdAt`),
    updatedAt: amount(updatedAt, `${place}.updatedAt`),
    messages: read,
    shown,
  };
}

function messageOf(value: unknown, place: string): Message {
  const { id, parent, role, content, createdAt, reasoning, toolCalls, toolCallId, end, error, stats } = record(value, place);
  return {
    id: string(id, `${place}.id`, MAX_ID),
    parent: parent === null ? null : string(parent, `${place}.parent`, MAX_ID),
    role: oneOf(role, ROLES, `${place}.role`),
    content: string(content, `${place}.content`, MAX_TEXT),
    createdAt: amount(createdAt, `${place}.createdAt`),
    ...(reasoning !== undefined && { reasoning: string(reasoning, `${place}.reasoning`, MAX_TEXT) }),
    ...(toolCalls !== undefined && {
      toolCalls: list(toolCalls, `${place}.toolCalls`, MAX_TOOL_CALLS).map((call, at) => toolCallOf(call, `${place}.toolCalls[${at}]`)),
    }),
    ...(toolCallId !== undefined && { toolCallId: string(toolCallId, `${place}.toolCallId`, MAX_ID) }),
    ...(end !== undefined && { end: oneOf(end, ENDS, `${place}.end`) }),
    ...(error !== undefined && { error: string(error, `${place}.error`, MAX_TEXT) }),
    ...(stats !== undefined && { stats: statsOf(stats, `${place}.stats`) }),
  };
}

function toolCallOf(value: unknown, place: string): ToolCall {
  const { id, name, arguments: given } = record(value, place);
  return {
    id: string(id, `${place}.id`, MAX_ID),
    name: string(name, `${place}.name`, MAX_TITLE),
    arguments: string(given, `${place}.arguments`, MAX_TEXT),
  };
}

function statsOf(value: unknown, place: string): AnswerStats {
  const { tokens, firstTokenMs, tokensPerSecond } = record(value, place);
  return {
    tokens: amount(tokens, `${place}.tokens`),
    firstTokenMs: amount(firstTokenMs, `${place}.firstTokenMs`),
    tokensPerSecond: amount(tokensPerSecond, `${place}.tokensPerSecond`),
  };
}

function wrong(place: string, expected: string): ImportError {
  return new ImportError(`Cannot import the file: ${place} is wrong, expected ${expected}`);
}

function record(value: unknown, place: string): Readonly<Record<string, unknown>> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong(place, "an object");
  return value as Readonly<Record<string, unknown>>;
}

function list(value: unknown, place: string, most: number): readonly unknown[] {
  if (!Array.isArray(value) || value.length > most) throw wrong(place, `a list of at most ${most}`);
  return value;
}

function string(value: unknown, place: string, most: number): string {
  if (typeof value !== "string" || value.length > most) throw wrong(place, `a text of at most ${most} characters`);
  return value;
}

function amount(value: unknown, place: string): number {
  if (typeof value !== "number" || !Number.isFinite(value) || value < 0) throw wrong(place, "a number from 0 on");
  return value;
}

function oneOf<T extends string>(value: unknown, known: readonly T[], place: string): T {
  const found = known.find((one) => one === value);
  if (found === undefined) throw wrong(place, `one of '${known.join("', '")}'`);
  return found;
}
