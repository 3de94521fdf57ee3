/** Conversations as data: finding, naming, and files to and from the outside. A file that is wrong in any place is refused whole. */
export interface Turn {
  readonly role: "user" | "assistant";
  readonly content: string;
  /** Of an answer. */
  readonly stats?: TurnStats;
}

export interface TurnStats {
  readonly tokens: number;
  readonly firstTokenMs: number;
  readonly tokensPerSecond: number;
}

export interface Conversation {
  readonly id: string;
  readonly title: string;
  /** Milliseconds since 1970. */
  readonly updatedAt: number;
  readonly turns: readonly Turn[];
}

export class ImportError extends Error {
  override readonly name = "ImportError";
}

const FORMAT = "shoal-conversations";
const MAX_CONVERSATIONS = 10_000;
const MAX_TURNS = 10_000;
const MAX_TEXT = 4 * 2 ** 20;
const MAX_TITLE = 200;
export const MAX_IMPORT_BYTES = 64 * 2 ** 20;

export function titleOf(text: string): string {
  const line = text.trim().split("\n")[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59)}…` : line;
}

export function search(all: readonly Conversation[], words: string): readonly Conversation[] {
  const wanted = words.trim().toLowerCase();
  if (wanted === "") return all;
  return all.filter(({ title, turns }) =>
    [title, ...turns.map(({ content }) => content)].some((text) => text.toLowerCase().includes(wanted)),
  );
}

export function toJson(conversations: readonly Conversation[]): string {
  return JSON.stringify({ format: FORMAT, version: 1, conversations }, null, 2);
}

export function toMarkdown({ title, turns }: Conversation): string {
  return [`# ${title}`, ...turns.map(({ role, content }) => `## ${role === "user" ? "You" : "Model"}\n\n${content}`)].join("\n\n") + "\n";
}

/** What `toJson` wrote, under new ids. @throws ImportError */
export function fromJson(text: string): readonly Conversation[] {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new ImportError("Cannot import the file: it is not JSON");
  }
  const file = record(json, "the file");
  if (file["format"] !== FORMAT || file["version"] !== 1) throw wrong("its format", `'${FORMAT}', version 1`);
  return list(file["conversations"], "conversations", MAX_CONVERSATIONS).map((item, index) => {
    const place = `conversations[${index}]`;
    const { title, updatedAt, turns } = record(item, place);
    if (typeof updatedAt !== "number" || !Number.isFinite(updatedAt)) throw wrong(`${place}.updatedAt`, "a time");
    return {
      id: crypto.randomUUID(),
      title: string(title, `${place}.title`, MAX_TITLE),
      updatedAt,
      turns: list(turns, `${place}.turns`, MAX_TURNS).map((turn, at) => turnOf(turn, `${place}.turns[${at}]`)),
    };
  });
}

function turnOf(value: unknown, place: string): Turn {
  const { role, content, stats } = record(value, place);
  if (role !== "user" && role !== "assistant") throw wrong(`${place}.role`, "'user' or 'assistant'");
  const turn = { role, content: string(content, `${place}.content`, MAX_TEXT) } as const;
  if (stats === undefined) return turn;
  const { tokens, firstTokenMs, tokensPerSecond } = record(stats, `${place}.stats`);
  return {
    ...turn,
    stats: {
      tokens: amount(tokens, `${place}.stats.tokens`),
      firstTokenMs: amount(firstTokenMs, `${place}.stats.firstTokenMs`),
      tokensPerSecond: amount(tokensPerSecond, `${place}.stats.tokensPerSecond`),
    },
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
