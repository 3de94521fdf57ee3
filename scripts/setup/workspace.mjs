/** The workspace's folders, as pnpm-workspace.yaml lists them. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";

/**
 * @param {string} root
 * @returns {string[]} folders that have a package.json, relative to the root, with forward slashes
 */
export function workspaceFolders(root) {
  return workspacePatterns(readFileSync(path.join(root, "pnpm-workspace.yaml"), "utf8"))
    .flatMap((pattern) => {
      if (!pattern.endsWith("/*")) return [pattern];
      const parent = pattern.slice(0, -2);
      const dir = path.join(root, parent);
      return existsSync(dir)
        ? readdirSync(dir)
            .sort()
            .map((name) => `${parent}/${name}`)
        : [];
    })
    .filter((folder) => existsSync(path.join(root, folder, "package.json")));
}

/**
 * Reads the one list needed of the file; patterns are plain folders or `folder/*`.
 * @param {string} yaml
 * @returns {string[]}
 */
export function workspacePatterns(yaml) {
  const lines = yaml.split("\n");
  const start = lines.findIndex((line) => /^packages:\s*$/.test(line));
  /** @type {string[]} */
  const patterns = [];
  for (const line of lines.slice(start + 1)) {
    const item = /^\s+-\s*["']?([^"'#\s]+)/.exec(line)?.[1];
    if (item !== undefined) patterns.push(item);
    else if (/^\S/.test(line)) break;
  }
  return patterns;
}
