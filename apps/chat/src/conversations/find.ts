/** Finding a conversation, naming one, and putting them in an order that a person expects. */
import type { Conversation } from "./tree.ts";

const TITLE_LENGTH = 60;
const DAY_MS = 86_400_000;

export function titleOf(text: string): string {
  const line = text.trim().split("\n")[0]?.trim() ?? "";
  return line.length > TITLE_LENGTH ? `${line.slice(0, TITLE_LENGTH - 1)}…` : line;
}

export class Finder {
  /** What each conversation says in lower case: made once for each state of it. */
  readonly #texts = new WeakMap<Conversation, string>();

  /** Those that have every word somewhere, in any branch. */
  search(all: readonly Conversation[], words: string): readonly Conversation[] {
    const wanted = words
      .toLowerCase()
      .split(/\s+/)
      .filter((word) => word !== "");
    return wanted.length === 0 ? all : all.filter((one) => wanted.every((word) => this.#textOf(one).includes(word)));
  }

  #textOf(conversation: Conversation): string {
    const known = this.#texts.get(conversation);
    if (known !== undefined) return known;
    const { title, messages } = conversation;
    const text = [title, ...messages.map(({ content }) => content)].join("\n").toLowerCase();
    this.#texts.set(conversation, text);
    return text;
  }
}

export interface DatedGroup {
  readonly name: string;
  readonly conversations: readonly Conversation[];
}

/** By when they were last spoken in, the latest first. */
export function groupByDate(all: readonly Conversation[], now: number): readonly DatedGroup[] {
  const midnight = new Date(now).setHours(0, 0, 0, 0);
  const steps = [
    ["Today", midnight],
    ["Yesterday", midnight - DAY_MS],
    ["Last 7 days", midnight - 7 * DAY_MS],
    ["Last 30 days", midnight - 30 * DAY_MS],
    ["Older", -Infinity],
  ] as const;
  const latest = all.toSorted((a, b) => b.updatedAt - a.updatedAt);
  return steps
    .map(([name, from], index) => {
      const to = steps[index - 1]?.[1] ?? Infinity;
      return { name, conversations: latest.filter(({ updatedAt }) => updatedAt >= from && updatedAt < to) };
    })
    .filter(({ conversations }) => conversations.length > 0);
}
