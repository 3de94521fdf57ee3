import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { TextWorker } from "./textWorker.ts";
import type { Turns } from "./turns.ts";

/** The page's one text worker, and the order in which texts come onto the page. */
export interface TextTools {
  readonly texts: TextWorker;
  readonly turns: Turns;
}

export const TextContext = createContext<TextTools | null>(null);

export function useText(): TextTools {
  const tools = useContext(TextContext);
  if (!tools) throw new Error("Cannot show text: no TextContext is around it");
  return tools;
}
