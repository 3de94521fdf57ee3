/**
 * A conversation is a tree of messages: editing a question or asking again adds a sibling, and nothing said is lost. What is on the page is one path through it, from
 * the root to `shown`.
 */
export type Role = "user" | "assistant" | "tool";

export interface ToolCall {
  readonly id: string;
  readonly name: string;
  /** JSON, as the model wrote it: perhaps not valid. */
  readonly arguments: string;
}

export interface AnswerStats {
  readonly tokens: number;
  readonly firstTokenMs: number;
  readonly tokensPerSecond: number;
}

/** Why an answer ended. Absent as long as it is being written, here or in another tab, and where the page was left meanwhile. */
export type AnswerEnd = "stop" | "length" | "tool_calls" | "stopped" | "failed";

export interface Message {
  readonly id: string;
  /** Null of a conversation's first. */
  readonly parent: string | null;
  readonly role: Role;
  readonly content: string;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly reasoning?: string;
  readonly toolCalls?: readonly ToolCall[];
  /** Of a tool's answer. */
  readonly toolCallId?: string;
  readonly end?: AnswerEnd;
  readonly error?: string;
  readonly stats?: AnswerStats;
}

export interface Conversation {
  readonly id: string;
  readonly title: string;
  readonly createdAt: number;
  readonly updatedAt: number;
  /** In the order of their making: a parent before its children. */
  readonly messages: readonly Message[];
  /** The last message on the page; null where there is none. */
  readonly shown: string | null;
}

/** From the root to `shown`. */
export function shownPath({ messages, shown }: Conversation): readonly Message[] {
  return pathTo(messages, shown);
}

export function pathTo(messages: readonly Message[], id: string | null): readonly Message[] {
  const byId = new Map(messages.map((message) => [message.id, message]));
  const path: Message[] = [];
  for (let at = id === null ? undefined : byId.get(id); at; at = at.parent === null ? undefined : byId.get(at.parent)) path.push(at);
  return path.toReversed();
}

/** Messages that could stand where this one does, itself among them, the oldest first. */
export function siblingsOf({ messages }: Conversation, { parent, role }: Message): readonly Message[] {
  return messages.filter((other) => other.parent === parent && other.role === role);
}

/** With this message on the page, and below it whatever was said last. */
export function showing(conversation: Conversation, id: string): Conversation {
  const { messages } = conversation;
  const parents = new Set(messages.map(({ parent }) => parent));
  const below = new Set([id]);
  let newest: Message | undefined;
  for (const message of messages) {
    if (message.parent !== null && below.has(message.parent)) below.add(message.id);
    const isLeaf = below.has(message.id) && !parents.has(message.id);
    if (isLeaf && message.createdAt >= (newest?.createdAt ?? -Infinity)) newest = message;
  }
  return { ...conversation, shown: newest?.id ?? id };
}

/** With one message more, which is then the last on the page. */
export function adding(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, messages: [...conversation.messages, message], shown: message.id, updatedAt: message.createdAt };
}

export function replacing(conversation: Conversation, message: Message): Conversation {
  return { ...conversation, messages: conversation.messages.map((old) => (old.id === message.id ? message : old)) };
}
