/** What is known of the model at work while somebody looks: asked for a few times a second, and heard from answers. Costs nothing while nobody does. */
import { signal } from "@preact/signals";
import type { Inspection } from "@shoal/web";
import type { AppState } from "../appState.ts";
import type { BackendChunk } from "../backend.ts";
import type { RequestWatcher } from "../chat/chatState.ts";
import { type ShownToken, tokensOf } from "./alternatives.ts";
import { ExpertHeat, type LayerHeat } from "./heat.ts";
import { type Rates, RateWindow } from "./rates.ts";

const EVERY_MS = 250;
/** Of each token of an answer. */
const ALTERNATIVES = 5;
/** Of a long answer the older half is not shown. */
const MOST_TOKENS = 400;
/** A fast model says more tokens than can be shown. */
const SHOWN_EVERY_MS = 100;

export interface LastAnswer {
  readonly firstTokenMs: number | null;
  readonly tokensPerSecond: number | null;
  readonly tokens: readonly ShownToken[];
  /** Tokens before these. */
  readonly before: number;
}

const NO_ANSWER: LastAnswer = { firstTokenMs: null, tokensPerSecond: null, tokens: [], before: 0 };

export class InspectorState implements RequestWatcher {
  /** Null where no model is on this device. */
  readonly inspection = signal<Inspection | null>(null);
  readonly layers = signal<readonly LayerHeat[]>([]);
  readonly rates = signal<Rates | null>(null);
  readonly answer = signal<LastAnswer>(NO_ANSWER);
  /** Whether answers are asked for alternatives: null until somebody says; the engine here is asked then, and a server is not, for it may refuse. */
  readonly wantsAlternatives = signal<boolean | null>(null);
  readonly #app: AppState;
  #heat = new ExpertHeat();
  #window = new RateWindow();
  #askedAt = 0;
  /** What `answer` becomes next. */
  #coming: LastAnswer = NO_ANSWER;
  #showing: ReturnType<typeof setTimeout> | undefined;

  constructor(app: AppState) {
    this.#app = app;
  }

  get asksAlternatives(): boolean {
    return this.wantsAlternatives.value ?? this.#app.backends.choice.value.kind === "device";
  }

  /** @returns ends the looking */
  start(): () => void {
    const { model, chat } = this.#app;
    let stopped = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const look = async (): Promise<void> => {
      const { engine } = model;
      // A hidden page needs no picture.
      const inspection = engine && !document.hidden ? await engine.inspect(true).catch(() => null) : this.inspection.peek();
      if (stopped) return;
      this.#see(engine ? inspection : null);
      timer = setTimeout(() => void look(), EVERY_MS);
    };
    void look();
    chat.watchers.add(this);
    return () => {
      stopped = true;
      clearTimeout(timer);
      clearTimeout(this.#showing);
      this.#showing = undefined;
      chat.watchers.delete(this);
      void model.engine?.inspect(false).catch(() => {});
    };
  }

  /** What requests ask for besides. */
  readonly fields = (): Readonly<Record<string, unknown>> => {
    this.#askedAt = performance.now();
    this.#coming = NO_ANSWER;
    this.answer.value = NO_ANSWER;
    return this.asksAlternatives ? { logprobs: true, top_logprobs: ALTERNATIVES } : {};
  };

  readonly onChunk = (_: string, { choices, usage, timings }: BackendChunk): void => {
    const [choice] = choices;
    const { firstTokenMs, tokens, before, tokensPerSecond } = this.#coming;
    const hasText = (choice?.delta.content ?? "") !== "" || (choice?.delta.reasoning_content ?? "") !== "";
    const more = tokensOf(choice?.logprobs);
    const done = usage && timings && timings.decode_ms > 0 ? ((usage.completion_tokens - 1) * 1000) / timings.decode_ms : null;
    if (!hasText && more.length === 0 && done === null) return;
    const all = more.length === 0 ? tokens : [...tokens, ...more];
    // Half at a time, so that those that stay keep their places.
    const dropped = all.length > MOST_TOKENS ? all.length - MOST_TOKENS / 2 : 0;
    this.#coming = {
      firstTokenMs: firstTokenMs ?? (hasText ? performance.now() - this.#askedAt : null),
      tokensPerSecond: done ?? tokensPerSecond,
      tokens: dropped === 0 ? all : all.slice(dropped),
      before: before + dropped,
    };
    this.#showing ??= setTimeout(() => {
      this.#showing = undefined;
      this.answer.value = this.#coming;
    }, SHOWN_EVERY_MS);
  };

  #see(inspection: Inspection | null): void {
    this.inspection.value = inspection;
    if (!inspection) {
      this.layers.value = [];
      this.rates.value = null;
      this.#heat = new ExpertHeat();
      return;
    }
    const { totals, running, waiting } = inspection.status;
    this.rates.value = this.#window.add({ ...totals, answers: running + waiting });
    if (inspection.routing) this.layers.value = this.#heat.add(inspection.routing.layers);
  }
}
