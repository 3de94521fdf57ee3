/** What a command is, and what it is given to run. */
import type { Interrupts } from "./interrupts.ts";
import type { OptionName, Values } from "./options.ts";
import type { Terminal } from "./terminal.ts";

export interface Invocation {
  readonly values: Values;
  /** Arguments that are no options. */
  readonly words: readonly string[];
  readonly terminal: Terminal;
  readonly interrupts: Interrupts;
}

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** After "shoal <name> [OPTIONS]". */
  readonly arguments: string;
  /** Most words besides options; Infinity joins them to one prompt. */
  readonly maxWords: number;
  /** Beyond the common ones. */
  readonly options: readonly OptionName[];
  /** What an option means, where that is not what it means elsewhere. */
  readonly meanings?: { readonly [Name in OptionName]?: string };
  /** Paragraphs and examples under the list of options. */
  readonly notes?: readonly string[];
  /** @returns the exit code */
  readonly run: (invocation: Invocation) => Promise<number>;
}
