/**
 * The conversation on a terminal or a pipe: asks, answers, knows a few commands. Ctrl-C stops an answer; at the prompt, twice, it leaves, as Ctrl-D does.
 */
import type { ChatTurn } from "@shoal/engine";
import { EXIT } from "../exitCodes.ts";
import { messageOf } from "../errors.ts";
import type { Interrupts } from "../interrupts.ts";
import type { Terminal } from "../terminal.ts";
import type { LineInput } from "./lineInput.ts";
import { type ChatStats, summaryLine } from "./stats.ts";

export const ASK = ">>> ";

const HELP = `/clear   forget the conversation
/stats   tokens and speed
/help    this list
/exit    leave; so does Ctrl-D. Ctrl-C stops an answer
`;

export interface ReplOptions {
  readonly terminal: Terminal;
  readonly input: LineInput;
  readonly interrupts: Interrupts;
  readonly stats: ChatStats;
  readonly contextTokens: number;
  /** Print the prompt even where input is no terminal: the demo does. */
  readonly alwaysAsk: boolean;
  readonly clear: () => void;
  /** Answers, writing the text as it comes. */
  readonly answer: (text: string, signal: AbortSignal) => Promise<ChatTurn>;
  readonly verbose: boolean;
}

/** @returns the exit code */
export async function runRepl(options: ReplOptions): Promise<number> {
  const { terminal, input, interrupts } = options;
  let interrupted = false;
  for (;;) {
    // On a terminal the line editor draws it.
    if (options.alwaysAsk && !terminal.inIsTerminal) terminal.out(ASK);
    const line = await input.next(ASK, interrupts.signal);
    if (line.kind === "end") return EXIT.ok;
    if (line.kind === "interrupt") {
      if (interrupted) return EXIT.interrupted;
      interrupted = true;
      terminal.err("Ctrl-C again, Ctrl-D or /exit leaves\n");
      continue;
    }
    interrupted = false;
    const text = line.text.trim();
    if (text === "/exit") return EXIT.ok;
    if (text !== "" && !runCommand(text, options)) await answerOnce(text, options);
  }
}

/** @returns whether it was one */
function runCommand(text: string, { terminal, stats, contextTokens, clear }: ReplOptions): boolean {
  if (text === "/clear") clear();
  else if (text === "/help") terminal.err(HELP);
  else if (text === "/stats") terminal.err(`${stats.lines(contextTokens).join("\n")}\n`);
  else if (/^\/[a-z]+$/.test(text)) terminal.err(`There is no command '${text}'; /help shows those that there are\n`);
  else return false;
  return true;
}

async function answerOnce(text: string, options: ReplOptions): Promise<void> {
  const { terminal, interrupts, stats } = options;
  // Not the signal's `aborted` alone: the whole command's is told apart from the answer's.
  let stopped: AbortSignal | undefined;
  try {
    const turn = await interrupts.stoppable((signal) => options.answer(text, (stopped = signal)));
    terminal.out("\n");
    stats.add(turn.timings);
    if (terminal.inIsTerminal) terminal.err(`[${summaryLine(turn.timings)}]\n`);
  } catch (error) {
    interrupts.signal.throwIfAborted();
    if (stopped?.aborted === true) {
      terminal.out("\n");
      terminal.err("[stopped]\n");
      return;
    }
    // A prompt that is too long is no reason to lose the conversation; a lost device is.
    if (!(error instanceof Error) || error.name !== "EngineError") throw error;
    terminal.err(`${messageOf(error, options.verbose)}; /clear forgets the conversation\n`);
  }
}
