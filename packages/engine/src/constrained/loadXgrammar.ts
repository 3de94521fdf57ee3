/**
 * Loads xgrammar's WASM in Node and Deno. Its bundle (0.1.27) is a CommonJS-or-global script in a package that says it holds modules: imported, it looks for `require` where
 * there is none; required, Node 20 refuses it. So its text is run with the names that CommonJS gives. Once a call of its C++ has failed, an instance is not to be relied on:
 * each call of this gives a new one. To be deleted when the package has an entry for modules.
 */
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type * as xgrammar from "@mlc-ai/web-xgrammar";

export type Xgrammar = typeof xgrammar;

/** @param printError hears what the C++ prints before it gives up, which is all that it says of an error */
export async function loadXgrammar(printError: (text: string) => void): Promise<Xgrammar> {
  const require = createRequire(import.meta.url);
  const path = require.resolve("@mlc-ai/web-xgrammar");
  // Code made by Function may not import, where a test runner gives modules.
  const text = (await readFile(path, "utf8")).replaceAll("import('module')", "importModule()");
  const module = { exports: {} };
  const console = { ...globalThis.console, error: printError, warn: printError, log: () => {} };
  // oxlint-disable-next-line typescript/no-implied-eval -- see above: a dependency's own file, as CommonJS
  const run = new Function("exports", "module", "require", "__filename", "console", "importModule", text) as (...names: unknown[]) => void;
  run(module.exports, module, require, path, console, () => import("node:module"));
  return module.exports as Xgrammar;
}
