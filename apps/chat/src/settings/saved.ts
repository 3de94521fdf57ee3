/** How the model answers and how the page looks, kept in IndexedDB. Whatever cannot be read counts as not there. */
import { get, set } from "idb-keyval";

export type Theme = "system" | "light" | "dark";

export interface Settings {
  readonly system: string;
  /** 0: always the likeliest token. */
  readonly temperature: number;
  readonly topP: number;
  /** 0: off. */
  readonly topK: number;
  readonly minP: number;
  readonly maxTokens: number;
  /** Null: another one for each answer. */
  readonly seed: number | null;
  readonly theme: Theme;
}

export const DEFAULT_SETTINGS: Settings = {
  system: "",
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  maxTokens: 1024,
  seed: null,
  theme: "system",
};

export interface Range {
  readonly min: number;
  readonly max: number;
  readonly step: number;
}

export type RangedSetting = "temperature" | "topP" | "topK" | "minP" | "maxTokens";

export const RANGES: Readonly<Record<RangedSetting, Range>> = {
  temperature: { min: 0, max: 2, step: 0.05 },
  topP: { min: 0.05, max: 1, step: 0.05 },
  topK: { min: 0, max: 200, step: 1 },
  minP: { min: 0, max: 1, step: 0.01 },
  maxTokens: { min: 1, max: 32_768, step: 1 },
};

export const MAX_SEED = 2 ** 32 - 1;
export const MAX_SYSTEM = 100_000;
/** Read before the first paint, which IndexedDB would come too late for. */
const THEME_KEY = "theme";

export async function loadSettings(): Promise<Settings> {
  const saved: unknown = await get("settings").catch(() => null);
  return typeof saved === "object" && saved !== null ? settingsOf(saved as Readonly<Record<string, unknown>>) : DEFAULT_SETTINGS;
}

export async function saveSettings(settings: Settings): Promise<void> {
  try {
    localStorage.setItem(THEME_KEY, settings.theme);
  } catch {
    // Storage may be refused; the theme is kept in the settings too.
  }
  await set("settings", settings);
}

export function firstTheme(): Theme {
  try {
    return themeOf(localStorage.getItem(THEME_KEY));
  } catch {
    return "system";
  }
}

/** The nearest value that is allowed; undefined where the number is none. */
export function within(name: RangedSetting, value: number): number | undefined {
  const { min, max, step } = RANGES[name];
  if (!Number.isFinite(value)) return undefined;
  const stepped = Math.round(value / step) * step;
  return Number(Math.min(max, Math.max(min, stepped)).toFixed(4));
}

function settingsOf(saved: Readonly<Record<string, unknown>>): Settings {
  const { system, seed, theme } = saved;
  const number = (name: RangedSetting): number => {
    const value = saved[name];
    return (typeof value === "number" ? within(name, value) : undefined) ?? DEFAULT_SETTINGS[name];
  };
  return {
    system: typeof system === "string" ? system.slice(0, MAX_SYSTEM) : "",
    temperature: number("temperature"),
    topP: number("topP"),
    topK: number("topK"),
    minP: number("minP"),
    maxTokens: number("maxTokens"),
    seed: typeof seed === "number" && Number.isSafeInteger(seed) && seed >= 0 && seed <= MAX_SEED ? seed : null,
    theme: themeOf(theme),
  };
}

function themeOf(value: unknown): Theme {
  return value === "light" || value === "dark" ? value : "system";
}
