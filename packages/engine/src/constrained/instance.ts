/** An instance of xgrammar's WASM, and what its failures say. */
import type { Xgrammar } from "#xgrammar";

/** Why a grammar cannot be followed, as the end of a sentence. `fatal`: the thread is to be begun anew. */
export class FaultError extends Error {
  override readonly name = "FaultError";
  readonly fatal: boolean;

  constructor(message: string, fatal = false) {
    super(message);
    this.fatal = fatal;
  }
}

/** "[FATAL] /path/regex_converter.cc:75: Regex parsing error at position 3". */
const SAID = /^\[FATAL\] \S+:\d+: (?:Check failed: \(.*?\) is false: )?(.*)$/s;
const MOST_SAID = 300;

export class XgrammarInstance {
  readonly #xgrammar: Xgrammar;
  readonly #printed: string[];

  private constructor(xgrammar: Xgrammar, printed: string[]) {
    this.#xgrammar = xgrammar;
    this.#printed = printed;
  }

  static async load(load: (printError: (text: string) => void) => Promise<Xgrammar>): Promise<XgrammarInstance> {
    const printed: string[] = [];
    return new XgrammarInstance(await load((text) => void printed.push(text.slice(0, 2 * MOST_SAID))), printed);
  }

  /** Whether both are one WASM memory. */
  isSame(other: XgrammarInstance): boolean {
    return this.#xgrammar === other.#xgrammar;
  }

  /**
   * Failures of its C++ come as numbers or as aborts, with a line that it printed. After one of them the instance is not to be used.
   * @throws FaultError: `fatal` for a failure of the C++
   */
  async call<T>(what: string, use: (xgrammar: Xgrammar) => Promise<T>): Promise<T> {
    this.#printed.length = 0;
    try {
      return await use(this.#xgrammar);
    } catch (error) {
      if (error instanceof FaultError) throw error;
      const said = this.#printed.map((line) => SAID.exec(line)?.[1]).find((line) => line !== undefined);
      throw new FaultError(said === undefined ? `${what} cannot be used` : said.trim().slice(0, MOST_SAID), true);
    }
  }
}
