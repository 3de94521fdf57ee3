/** Conversations, the one that is open, and the answer that is being written. */
import { type ReadonlySignal, batch, computed, signal } from "@preact/signals";
import type { BackendChunk, ChatBackend } from "../backend.ts";
import { fromJson } from "../conversations/files.ts";
import { Finder, groupByDate, titleOf } from "../conversations/find.ts";
import { type ConversationStore, openConversationStore } from "../conversations/store.ts";
import { type Conversation, type Message, adding, pathTo, replacing, showing, shownPath } from "../conversations/tree.ts";
import { DEFAULT_SETTINGS, type Settings, loadSettings, saveSettings } from "../settings/saved.ts";
import { type Answer, AnswerReader, NO_ANSWER } from "./answerReader.ts";
import { Frames } from "./frames.ts";
import { requestOf } from "./request.ts";

/** An answer that is being written is saved this often, so that a closed tab loses little of it. */
const SAVE_MS = 3000;

/** Hears what is asked and answered, and may ask for more: log probabilities, say. */
export interface RequestWatcher {
  readonly fields?: () => Readonly<Record<string, unknown>>;
  readonly onChunk?: (messageId: string, chunk: BackendChunk) => void;
  readonly onEnd?: (messageId: string) => void;
}

export interface Writing {
  readonly conversationId: string;
  readonly messageId: string;
}

/** A line over the field to write in. */
export interface Notice {
  readonly text: string;
  readonly action?: { readonly name: string; readonly run: () => void };
}

export class ChatState {
  /** Null as long as nothing answers. */
  readonly backend: ReadonlySignal<ChatBackend | null>;
  readonly watchers = new Set<RequestWatcher>();
  readonly conversations = signal<readonly Conversation[]>([]);
  readonly openId = signal<string | null>(null);
  readonly settings = signal<Settings>(DEFAULT_SETTINGS);
  readonly words = signal("");
  readonly draft = signal("");
  /** The question that is being rewritten. */
  readonly editing = signal<string | null>(null);
  readonly notice = signal<Notice | null>(null);
  readonly writing = signal<Writing | null>(null);
  /** Whether the draft was sent while an answer was being written: it goes once that has ended. */
  readonly waits = signal(false);
  /** What is written so far; changes once a frame at most. */
  readonly live = signal<Answer>(NO_ANSWER);
  readonly open = computed(() => this.conversations.value.find(({ id }) => id === this.openId.value) ?? null);
  readonly path = computed(() => (this.open.value ? shownPath(this.open.value) : []));
  readonly groups = computed(() => groupByDate(this.#finder.search(this.conversations.value, this.words.value), Date.now()));
  readonly #finder = new Finder();
  readonly #store: ConversationStore;
  #answering: AbortController | undefined;

  constructor(backend: ReadonlySignal<ChatBackend | null>, store: ConversationStore = openConversationStore()) {
    this.backend = backend;
    this.#store = store;
    store.onOther((id, conversation) => {
      if (this.writing.value?.conversationId === id) return;
      const others = this.conversations.value.filter((one) => one.id !== id);
      this.conversations.value = conversation ? [...others, conversation] : others;
    });
  }

  /** Where nothing can be read, the page works all the same. */
  async restore(): Promise<void> {
    const before = this.settings.value;
    try {
      const [settings, conversations] = await Promise.all([loadSettings(), this.#store.load()]);
      batch(() => {
        // What a person was faster with stays.
        if (this.settings.value === before) this.settings.value = settings;
        this.conversations.value = [...conversations.filter(({ id }) => !this.#find(id)), ...this.conversations.value];
      });
    } catch (error) {
      this.say(`Cannot read earlier conversations: ${textOf(error)}`);
    }
  }

  say(text: string, action?: Notice["action"]): void {
    this.notice.value = { text, ...(action && { action }) };
  }

  change(settings: Partial<Settings>): void {
    this.settings.value = { ...this.settings.value, ...settings };
    this.#keep(saveSettings(this.settings.value));
  }

  show(id: string | null): void {
    batch(() => {
      this.openId.value = id;
      this.editing.value = null;
      this.notice.value = null;
      this.waits.value = false;
    });
  }

  rename(id: string, title: string): void {
    const conversation = this.#find(id);
    if (conversation && title.trim() !== "") this.#put({ ...conversation, title: titleOf(title) });
  }

  /** For a while it can be had back. */
  remove(id: string): void {
    const conversation = this.#find(id);
    if (!conversation) return;
    if (this.writing.value?.conversationId === id) this.stop();
    if (this.openId.value === id) this.show(null);
    this.conversations.value = this.conversations.value.filter((one) => one.id !== id);
    this.#keep(this.#store.remove(id));
    const undo = (): void => {
      this.#put(conversation);
      this.show(id);
    };
    this.say(`“${conversation.title}” is deleted.`, { name: "Undo", run: undo });
  }

  removeAll(): void {
    this.stop();
    this.show(null);
    const all = this.conversations.value;
    this.conversations.value = [];
    for (const { id } of all) this.#keep(this.#store.remove(id));
    const undo = (): void => {
      for (const one of all) this.#put(one);
      this.notice.value = null;
    };
    this.say("All conversations are deleted.", { name: "Undo", run: undo });
  }

  /** A file that cannot be read says why and changes nothing. */
  import(text: string): void {
    try {
      const more = fromJson(text);
      for (const one of more) this.#put(one);
      this.say(more.length === 1 ? "1 conversation is imported." : `${more.length} conversations are imported.`);
    } catch (error) {
      this.say(textOf(error));
    }
  }

  /** What is in the field. It is then not sent by itself any more. */
  write(text: string): void {
    batch(() => {
      this.draft.value = text;
      this.waits.value = false;
    });
  }

  async send(): Promise<void> {
    const content = this.draft.value.trim();
    if (content === "" || !this.backend.value) return;
    if (this.writing.value) {
      this.waits.value = true;
      return;
    }
    this.draft.value = "";
    await this.#ask(this.open.value ?? newConversation(content), this.open.value?.shown ?? null, { role: "user", content });
  }

  /** The question in another wording: a sibling, with an answer of its own. */
  async resend(messageId: string, content: string): Promise<void> {
    const message = this.#message(messageId);
    // What was written is not lost where it cannot be sent.
    if (!message || !this.open.value || content.trim() === "" || this.writing.value || !this.backend.value) return;
    this.editing.value = null;
    await this.#ask(this.open.value, message.parent, { role: "user", content: content.trim() });
  }

  /** What a tool gave, where the model asked for one. */
  async answerTool(messageId: string, toolCallId: string, content: string): Promise<void> {
    if (!this.open.value || this.writing.value || !this.backend.value) return;
    const calls = this.#message(messageId)?.toolCalls ?? [];
    const result = { role: "tool", content, toolCallId } as const;
    const answered = new Set(this.path.value.map((message) => message.toolCallId));
    const isLast = calls.every(({ id }) => id === toolCallId || answered.has(id));
    if (isLast) await this.#ask(this.open.value, this.open.value.shown, result);
    else this.#put(adding(this.open.value, newMessage(this.open.value.shown, result)));
  }

  /** Another answer to the same question. */
  async regenerate(messageId: string): Promise<void> {
    const message = this.#message(messageId);
    if (message && message.parent !== null && this.open.value && !this.writing.value) await this.#answer(this.open.value, message.parent);
  }

  /** Brings another branch onto the page. */
  turnTo(messageId: string): void {
    if (this.open.value) this.#put(showing(this.open.value, messageId));
  }

  /** What was said so far stays. */
  stop(): void {
    this.#answering?.abort();
  }

  async #ask(conversation: Conversation, parent: string | null, said: Pick<Message, "role" | "content" | "toolCallId">): Promise<void> {
    const message = newMessage(parent, said);
    this.openId.value = conversation.id;
    await this.#answer(adding(conversation, message), message.id);
  }

  async #answer(asked: Conversation, parent: string): Promise<void> {
    const backend = this.backend.value;
    if (!backend) return;
    const message = newMessage(parent, { role: "assistant", content: "" });
    const controller = new AbortController();
    const reader = new AnswerReader(performance.now());
    const frames = new Frames(() => (this.live.value = reader.answer));
    let savedAt = performance.now();
    this.#answering = controller;
    batch(() => {
      this.notice.value = null;
      this.live.value = NO_ANSWER;
      this.writing.value = { conversationId: asked.id, messageId: message.id };
      this.#put(adding(asked, message));
    });
    let failure: string | undefined;
    try {
      const extra = Object.assign({}, ...[...this.watchers].map(({ fields }) => fields?.())) as Record<string, unknown>;
      const request = { ...requestOf(pathTo(asked.messages, parent), this.settings.value), ...extra };
      for await (const chunk of backend.chat.completions.create(request, { signal: controller.signal })) {
        reader.push(chunk, performance.now());
        for (const { onChunk } of this.watchers) onChunk?.(message.id, chunk);
        frames.ask();
        if (performance.now() - savedAt < SAVE_MS) continue;
        savedAt = performance.now();
        this.#replace(asked.id, { ...message, ...written(reader.answer) });
      }
    } catch (error) {
      if (!controller.signal.aborted) failure = textOf(error);
    } finally {
      frames.stop();
      const end = failure !== undefined ? "failed" : controller.signal.aborted ? "stopped" : (reader.end ?? "stop");
      const { stats } = reader;
      batch(() => {
        this.writing.value = null;
        this.#replace(asked.id, {
          ...message,
          ...written(reader.answer),
          end,
          ...(failure !== undefined && { error: failure }),
          ...(stats && { stats }),
        });
      });
      for (const { onEnd } of this.watchers) onEnd?.(message.id);
    }
    const waits = this.waits.value;
    this.waits.value = false;
    // After a failure a person decides anew.
    if (waits && failure === undefined) await this.send();
  }

  #find(id: string): Conversation | undefined {
    return this.conversations.value.find((one) => one.id === id);
  }

  #message(id: string): Message | undefined {
    return this.open.value?.messages.find((message) => message.id === id);
  }

  /** One that was deleted meanwhile stays so. */
  #replace(conversationId: string, message: Message): void {
    const conversation = this.#find(conversationId);
    if (conversation) this.#put(replacing(conversation, message));
  }

  #put(conversation: Conversation): void {
    this.conversations.value = [...this.conversations.value.filter(({ id }) => id !== conversation.id), conversation];
    this.#keep(this.#store.save(conversation));
  }

  #keep(saving: Promise<void>): void {
    saving.catch((error: unknown) => this.say(`Cannot keep your changes in this browser: ${textOf(error)}`));
  }
}

function newConversation(firstWords: string): Conversation {
  const now = Date.now();
  return { id: crypto.randomUUID(), title: titleOf(firstWords), createdAt: now, updatedAt: now, messages: [], shown: null };
}

function newMessage(parent: string | null, said: Pick<Message, "role" | "content" | "toolCallId">): Message {
  return { id: crypto.randomUUID(), parent, createdAt: Date.now(), ...said };
}

function written({ content, reasoning, toolCalls }: Answer): Pick<Message, "content" | "reasoning" | "toolCalls"> {
  return { content, ...(reasoning !== "" && { reasoning }), ...(toolCalls.length > 0 && { toolCalls }) };
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
