/** Conversations, the one that is open, and the answer that is being written. */
import { type ReadonlySignal, computed, signal } from "@preact/signals";
import type { ChatMessage } from "@shoal/web";
import { type Conversation, type Turn, fromJson, search, titleOf } from "../conversations/conversations.ts";
import type { ChatBackend } from "../backend.ts";
import { splitReasoning } from "./reasoning.ts";
import { DEFAULT_SETTINGS, type Settings, loadConversations, loadSettings, saveConversations, saveSettings } from "../settings/saved.ts";

export class ChatState {
  readonly conversations = signal<readonly Conversation[]>([]);
  readonly openId = signal<string | null>(null);
  readonly words = signal("");
  readonly settings = signal<Settings>(DEFAULT_SETTINGS);
  /** Text of the answer so far; null when none is being written. */
  readonly writing = signal<string | null>(null);
  readonly draft = signal("");
  /** The turn that the draft replaces, with all that followed it. */
  readonly editing = signal<number | null>(null);
  readonly notice = signal<string | null>(null);
  readonly open = computed(() => this.conversations.value.find(({ id }) => id === this.openId.value) ?? null);
  readonly found = computed(() => search(this.conversations.value, this.words.value));
  /** Null as long as nothing answers. */
  readonly backend: ReadonlySignal<ChatBackend | null>;
  #answering: AbortController | undefined;

  constructor(backend: ReadonlySignal<ChatBackend | null>) {
    this.backend = backend;
  }

  async restore(): Promise<void> {
    this.settings.value = await loadSettings();
    this.conversations.value = await loadConversations();
    this.openId.value = this.conversations.value[0]?.id ?? null;
  }

  change(settings: Partial<Settings>): void {
    this.settings.value = { ...this.settings.value, ...settings };
    this.#keep(saveSettings(this.settings.value));
  }

  show(id: string | null): void {
    this.stop();
    this.openId.value = id;
    this.editing.value = null;
    this.notice.value = null;
  }

  rename(id: string, title: string): void {
    if (title.trim() !== "")
      this.#put(this.conversations.value.map((one) => (one.id === id ? { ...one, title: title.trim().slice(0, 200) } : one)));
  }

  remove(id: string): void {
    if (this.openId.value === id) this.show(null);
    this.#put(this.conversations.value.filter((one) => one.id !== id));
  }

  /** A file that cannot be read says why and changes nothing. */
  import(text: string): void {
    try {
      const more = fromJson(text);
      this.#put([...more, ...this.conversations.value]);
      this.notice.value = more.length === 1 ? "1 conversation imported." : `${more.length} conversations imported.`;
    } catch (error) {
      this.notice.value = error instanceof Error ? error.message : String(error);
    }
  }

  edit(index: number): void {
    this.editing.value = index;
    this.draft.value = this.open.value?.turns[index]?.content ?? "";
  }

  cancelEdit(): void {
    this.editing.value = null;
    this.draft.value = "";
  }

  async send(): Promise<void> {
    const content = this.draft.value.trim();
    if (content === "" || this.writing.value !== null || !this.backend.value) return;
    const before = this.open.value?.turns.slice(0, this.editing.value ?? undefined) ?? [];
    this.draft.value = "";
    this.editing.value = null;
    await this.#answer([...before, { role: "user", content }]);
  }

  /** Another answer to the last question. */
  async regenerate(): Promise<void> {
    const turns = this.open.value?.turns ?? [];
    if (this.writing.value === null && turns.at(-1)?.role === "assistant") await this.#answer(turns.slice(0, -1));
  }

  /** What was said so far stays. */
  stop(): void {
    this.#answering?.abort();
  }

  async #answer(turns: readonly Turn[]): Promise<void> {
    const engine = this.backend.value;
    if (!engine) return;
    this.notice.value = null;
    const id = this.openId.value ?? crypto.randomUUID();
    this.openId.value = id;
    this.#setTurns(id, turns);
    const controller = new AbortController();
    this.#answering = controller;
    this.writing.value = "";
    const { system, temperature, topP, topK, maxTokens } = this.settings.value;
    let text = "";
    let stats: Turn["stats"];
    try {
      const request = {
        messages: messagesOf(system, turns),
        temperature,
        top_p: topP,
        top_k: topK,
        max_tokens: maxTokens,
        stream: true,
      } as const;
      for await (const { choices, usage, timings } of engine.chat.completions.create(request, { signal: controller.signal })) {
        text += choices[0]?.delta.content ?? "";
        if (this.openId.value === id) this.writing.value = text;
        if (usage && timings) {
          const tokens = usage.completion_tokens;
          const tokensPerSecond = timings.decode_ms > 0 ? ((tokens - 1) * 1000) / timings.decode_ms : 0;
          stats = { tokens, firstTokenMs: timings.first_token_ms, tokensPerSecond };
        }
      }
    } catch (error) {
      if (!controller.signal.aborted) this.notice.value = error instanceof Error ? error.message : String(error);
    } finally {
      this.writing.value = null;
      if (text !== "" && this.conversations.value.some((one) => one.id === id))
        this.#setTurns(id, [...turns, { role: "assistant", content: text, ...(stats && { stats }) }]);
    }
  }

  #setTurns(id: string, turns: readonly Turn[]): void {
    const known = this.conversations.value.find((one) => one.id === id);
    const title = known?.title ?? titleOf(turns[0]?.content ?? "");
    this.#put([{ id, title, updatedAt: Date.now(), turns }, ...this.conversations.value.filter((one) => one.id !== id)]);
  }

  #put(conversations: readonly Conversation[]): void {
    this.conversations.value = conversations;
    this.#keep(saveConversations(conversations));
  }

  #keep(saving: Promise<void>): void {
    saving.catch((error: unknown) => {
      this.notice.value = `Cannot keep your changes in this browser: ${error instanceof Error ? error.message : String(error)}`;
    });
  }
}

/** Models are not to see the reasoning of earlier answers. */
function messagesOf(system: string, turns: readonly Turn[]): readonly ChatMessage[] {
  const said = turns.map(({ role, content }) => ({ role, content: role === "assistant" ? splitReasoning(content).answer : content }));
  return system.trim() === "" ? said : [{ role: "system", content: system }, ...said];
}
