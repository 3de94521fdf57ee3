/**
 * The WGSL sources by path relative to this folder ("matvec/matvec.wgsl"), read from disk: Deno and Node.
 * `sources.browser.ts` is the same for bundlers.
 */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export function shaderSources(): ReadonlyMap<string, string> {
  const root = fileURLToPath(new URL("./", import.meta.url));
  const sources = new Map<string, string>();
  for (const entry of readdirSync(root, { recursive: true, encoding: "utf8" })) {
    if (entry.endsWith(".wgsl")) sources.set(entry.replaceAll("\\", "/"), readFileSync(root + entry, "utf8"));
  }
  return sources;
}
