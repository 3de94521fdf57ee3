/** Which model was used last, in IndexedDB. What cannot be read counts as not there. */
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

export async function saveSource(source: RemotelyKept): Promise<void> {
  await set(KEY, source.kind === "folder" ? { kind: source.kind, url: source.url } : { kind: source.kind, repo: source.repo });
}
