/**
 * Finds a module's imports: `import`, `export ... from`, type-only ones included, and `import("...")`.
 *
 * It reads lines, no syntax tree: the formatter puts every import statement at the start of a line with its source in double quotes.
 */

/** An import's names may run over several lines, but hold no quote and no semicolon. */
const STATEMENT = /^(?:import|export)\b(?:[^"'`;]*?\bfrom)?\s*["']([^"'\n]+)["']/gm;
const DYNAMIC = /\bimport\(\s*["']([^"'\n]+)["']/g;

/**
 * @param {string} source
 * @returns {string[]} specifiers, each once
 */
export function importsOf(source) {
  const code = source.replaceAll(/^\s*(?:\/\/|\/?\*).*$/gm, "");
  return [...new Set([STATEMENT, DYNAMIC].flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1] ?? "")))];
}
