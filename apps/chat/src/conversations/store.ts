/** Conversations in IndexedDB, each under its own key, so that saving one does not write all, and two tabs do not undo each other's. */
import { createStore, del, entries, get, set } from "idb-keyval";
import { conversationOf } from "./files.ts";
import type { Conversation } from "./tree.ts";

const CHANNEL = "shoal-conversations";

export interface ConversationStore {
  /** Those that can be read; others stay where they are. */
  load(): Promise<readonly Conversation[]>;
  save(conversation: Conversation): Promise<void>;
  remove(id: string): Promise<void>;
  /** Hears of what other tabs saved, and of what they removed: null. */
  onOther(heard: (id: string, conversation: Conversation | null) => void): void;
}

export function openConversationStore(): ConversationStore {
  const store = createStore("shoal-conversations", "conversations");
  const channel = new BroadcastChannel(CHANNEL);
  const tell = (id: string): void => {
    // A channel's messages have no target origin.
    // oxlint-disable-next-line unicorn/require-post-message-target-origin
    channel.postMessage(id);
  };
  return {
    async load() {
      const saved = await entries<string, unknown>(store);
      return saved.flatMap(([key, value]) => {
        const read = readable(value);
        return read && read.id === key ? [read] : [];
      });
    },
    async save(conversation) {
      await set(conversation.id, conversation, store);
      tell(conversation.id);
    },
    async remove(id) {
      await del(id, store);
      tell(id);
    },
    onOther(heard) {
      channel.addEventListener("message", ({ data }: MessageEvent<unknown>) => {
        if (typeof data !== "string") return;
        get<unknown>(data, store).then(
          (value) => heard(data, readable(value) ?? null),
          () => {},
        );
      });
    },
  };
}

function readable(value: unknown): Conversation | undefined {
  try {
    return conversationOf(value, "conversation");
  } catch {
    return undefined;
  }
}
