/** Standard input, output and error, as the commands use them: answers go to `out`, everything about the run to `err`. */
import { RunnerError } from "./errors.ts";

export interface Terminal {
  readonly inIsTerminal: boolean;
  readonly outIsTerminal: boolean;
  readonly errIsTerminal: boolean;
  /** Columns of the terminal behind `err`. */
  columns(): number;
  out(text: string): void;
  err(text: string): void;
  /** All of standard input. */
  readAll(signal?: AbortSignal): Promise<string>;
}

/** Whoever read our output has gone (`shoal ... | head`): nothing is left to say. */
export class ClosedPipeError extends RunnerError {
  constructor() {
    super("Cannot write the output: the reader has gone");
  }
}

/** What a person may paste as one prompt. */
const MAX_INPUT_BYTES = 64 * 2 ** 20;

export const denoTerminal: Terminal = {
  inIsTerminal: Deno.stdin.isTerminal(),
  outIsTerminal: Deno.stdout.isTerminal(),
  errIsTerminal: Deno.stderr.isTerminal(),
  columns() {
    try {
      // A terminal that does not know its size says 0.
      return Deno.consoleSize().columns || 80;
    } catch {
      return 80;
    }
  },
  out: (text) => writeAll(Deno.stdout, text),
  err(text) {
    try {
      writeAll(Deno.stderr, text);
    } catch {
      // Nobody is there to be told.
    }
  },
  async readAll(signal) {
    const parts: string[] = [];
    let bytes = 0;
    const decoder = new TextDecoder();
    for await (const chunk of Deno.stdin.readable) {
      signal?.throwIfAborted();
      bytes += chunk.byteLength;
      if (bytes > MAX_INPUT_BYTES) throw new RunnerError(`Cannot read standard input: it has more than ${MAX_INPUT_BYTES} bytes`);
      parts.push(decoder.decode(chunk, { stream: true }));
    }
    return parts.join("") + decoder.decode();
  },
};

function writeAll(target: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let done = 0; done < bytes.byteLength;) done += target.writeSync(bytes.subarray(done));
  } catch (cause) {
    if (cause instanceof Deno.errors.BrokenPipe) throw new ClosedPipeError();
    throw cause;
  }
}
