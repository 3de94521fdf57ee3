/**
 * Loads xgrammar's WASM in pages and their workers, where its bundle needs nothing but `location`. One instance a thread: bundlers give a module once, so an instance whose C++ has
 * failed goes with its worker.
 */
import type * as xgrammar from "@mlc-ai/web-xgrammar";

export type Xgrammar = typeof xgrammar;

/** @param printError hears what the C++ prints before it gives up, which is all that it says of an error */
export async function loadXgrammar(printError: (text: string) => void): Promise<Xgrammar> {
  const { error, warn } = console;
  const module: unknown = await import("@mlc-ai/web-xgrammar");
  // A bundler gives the exports of a CommonJS module; as it stands the bundle leaves them in a global.
  const exported = (module as { readonly default?: Xgrammar }).default ?? (module as Xgrammar);
  const xgrammar = "Grammar" in exported ? exported : (globalThis as unknown as { readonly xgrammar: Xgrammar }).xgrammar;
  // It binds these when it starts, which the first call does.
  console.error = console.warn = printError;
  try {
    await xgrammar.Grammar.builtinJSONGrammar();
  } finally {
    Object.assign(console, { error, warn });
  }
  return xgrammar;
}
