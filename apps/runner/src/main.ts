/**
 * The `shoal` command. Everything it says about a run goes to standard error, its results to standard output.
 * Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
 */
import { type CommandLine, parseCommandLine } from "./args.ts";
import { COMMANDS } from "./commands/mod.ts";
import { UsageError, messageOf } from "./errors.ts";
import { EXIT } from "./exitCodes.ts";
import { commandHelp, generalHelp } from "./help.ts";
import { Interrupts } from "./interrupts.ts";
import { exitNow } from "./exitNow.ts";
import { ClosedPipeError, denoTerminal as terminal } from "./terminal.ts";
import { VERSION } from "./version.ts";

const interrupts = new Interrupts(() => exitNow(EXIT.interrupted));

async function run(line: CommandLine): Promise<number> {
  const { command, values, words } = line;
  if (values.help === true) {
    terminal.out(command ? commandHelp(command) : generalHelp(COMMANDS, VERSION));
    return EXIT.ok;
  }
  if (values.version === true) {
    terminal.out(`shoal ${VERSION}\n`);
    return EXIT.ok;
  }
  if (!command) {
    terminal.err(generalHelp(COMMANDS, VERSION));
    return EXIT.usage;
  }
  return command.run({ values, words, terminal, interrupts });
}

async function main(args: readonly string[]): Promise<number> {
  Deno.addSignalListener("SIGINT", () => interrupts.interrupt());
  try {
    return await run(parseCommandLine(args, COMMANDS));
  } catch (error) {
    if (interrupts.signal.aborted) return EXIT.interrupted;
    // As if the pipe's signal had ended us: the shell expects no words.
    if (error instanceof ClosedPipeError) return EXIT.failure;
    terminal.err(`${messageOf(error, args.includes("--verbose") || args.includes("-v"))}\n`);
    return error instanceof UsageError ? EXIT.usage : EXIT.failure;
  }
}

// At once: a worker that is busy, or a terminal that is still being read, would keep the process.
exitNow(await main(Deno.args));
