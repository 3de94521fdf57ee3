/** What lasts between visits, in IndexedDB. Whatever cannot be read counts as not there: an old version's data must not keep the page from starting. */
import { get, set } from "idb-keyval";
import { type Conversation, fromJson, toJson } from "../conversations/conversations.ts";

export type Theme = "system" | "light" | "dark";

export interface Settings {
  readonly system: string;
  readonly temperature: number;
  readonly topP: number;
  readonly topK: number;
  readonly maxTokens: number;
  readonly theme: Theme;
}

export const DEFAULT_SETTINGS: Settings = { system: "", temperature: 0, topP: 1, topK: 0, maxTokens: 512, theme: "system" };

export const RANGES = {
  temperature: { min: 0, max: 2, step: 0.1 },
  topP: { min: 0.05, max: 1, step: 0.05 },
  topK: { min: 0, max: 200, step: 1 },
  maxTokens: { min: 1, max: 4096, step: 1 },
} as const;

export async function loadSettings(): Promise<Settings> {
  const saved: unknown = await get("settings").catch(() => null);
  if (typeof saved !== "object" || saved === null) return DEFAULT_SETTINGS;
  const { system, theme, ...rest } = saved as Partial<Record<keyof Settings, unknown>>;
  const number = (name: keyof typeof RANGES): number => {
    const value = rest[name];
    return typeof value === "number" && value >= RANGES[name].min && value <= RANGES[name].max ? value : DEFAULT_SETTINGS[name];
  };
  return {
    system: typeof system === "string" ? system : "",
    temperature: number("temperature"),
    topP: number("topP"),
    topK: number("topK"),
    maxTokens: number("maxTokens"),
    theme: theme === "light" || theme === "dark" ? theme : "system",
  };
}

export async function saveSettings(settings: Settings): Promise<void> {
  await set("settings", settings);
}

export async function loadConversations(): Promise<readonly Conversation[]> {
  const saved: unknown = await get("conversations").catch(() => null);
  try {
    return typeof saved === "string" ? fromJson(saved) : [];
  } catch {
    return [];
  }
}

export async function saveConversations(conversations: readonly Conversation[]): Promise<void> {
  await set("conversations", toJson(conversations));
}
