/** The WGSL sources by path, inlined by Vite. See `sources.ts`. */
/// <reference types="vite/client" />

export function shaderSources(): ReadonlyMap<string, string> {
  const files = import.meta.glob<string>("./**/*.wgsl", { query: "?raw", import: "default", eager: true });
  return new Map(Object.entries(files).map(([path, text]) => [path.slice(2), text]));
}
