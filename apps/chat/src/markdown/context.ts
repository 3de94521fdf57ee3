import { createContext } from "preact";
import { useContext } from "preact/hooks";
import type { TextWorker } from "./textWorker.ts";

/** The page's one text worker. */
export const TextWorkerContext = createContext<TextWorker | null>(null);

export function useTextWorker(): TextWorker {
  const worker = useContext(TextWorkerContext);
  if (!worker) throw new Error("Cannot show text: no TextWorkerContext is around it");
  return worker;
}
