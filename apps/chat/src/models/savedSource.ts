/** Which model was used last, and with how many of its experts on the GPU, in IndexedDB. What cannot be read counts as not there. */
import type { ModelSource } from "@shoal/web";
import { get, set } from "idb-keyval";

/** Files of this machine are not kept, nor their names. */
export type RemotelyKept = Exclude<ModelSource, { readonly kind: "files" }>;

const KEY = "model";

export async function savedSource(): Promise<RemotelyKept | null> {
  const saved: unknown = await get(KEY).catch(() => null);
  if (typeof saved !== "object" || saved === null) return null;
  const { kind, url, repo } = saved as Readonly<Record<string, unknown>>;
  if (kind === "folder" && typeof url === "string" && URL.canParse(url)) return { kind, url };
  if (kind === "hub" && typeof repo === "string" && /^[\w.-]+\/[\w.-]+$/.test(repo)) return { kind, repo };
  return null;
}

/** From 0 to 1. */
export async function savedShare(): Promise<number> {
  const saved: unknown = await get(KEY).catch(() => null);
  const share: unknown = typeof saved === "object" && saved !== null && "expertShare" in saved ? saved.expertShare : 1;
  return typeof share === "number" && share > 0 && share < 1 ? share : 1;
}

export async function saveSource(source: RemotelyKept, expertShare: number): Promise<void> {
  const { kind } = source;
  await set(KEY, kind === "folder" ? { kind, url: source.url, expertShare } : { kind, repo: source.repo, expertShare });
}
