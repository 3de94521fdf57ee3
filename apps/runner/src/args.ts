/** The command line as a command, its options and its words. Pure: what is wrong becomes a UsageError. */
import { parseArgs } from "node:util";
import type { Command } from "./command.ts";
import { UsageError } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { COMMON, OPTIONS, SHORT, type Option, type OptionName, type Values, isOptionName } from "./options.ts";

export interface CommandLine {
  /** Undefined where none is named: help or version. */
  readonly command: Command | undefined;
  readonly values: Values;
  readonly words: readonly string[];
}

export function parseCommandLine(args: readonly string[], commands: readonly Command[]): CommandLine {
  const parserOptions: Record<string, { type: "boolean" | "string"; short?: string }> = {};
  for (const [name, { placeholder }] of Object.entries(OPTIONS)) {
    const short = Object.entries(SHORT).find(([, long]) => long === name)?.[0];
    parserOptions[name] = { type: placeholder === null ? "boolean" : "string", ...(short !== undefined && { short }) };
  }
  // Not strict: its messages cannot be told from one another, and none names the flag that was meant.
  const { tokens } = parseArgs({ args: [...args], options: parserOptions, strict: false, allowPositionals: true, tokens: true });

  let command: Command | undefined;
  const words: string[] = [];
  for (const token of tokens) {
    if (token.kind !== "positional") continue;
    if (command) words.push(token.value);
    else command = findCommand(token.value, commands);
  }
  const allowed: readonly OptionName[] = command ? [...command.options, ...COMMON] : ["help", "version", "verbose"];
  const values: Record<string, unknown> = {};
  for (const token of tokens) {
    if (token.kind !== "option") continue;
    const { name, rawName, value } = token;
    if (!isOptionName(name) || !allowed.includes(name)) throw unknownOption(rawName, name, allowed, command);
    if (name in values) throw new UsageError(`Cannot use '${rawName}' twice, expected it once`, command?.name);
    values[name] = parseValue(rawName, OPTIONS[name], value, command);
  }
  if (command && words.length > command.maxWords) {
    const extra = words[command.maxWords] ?? "";
    throw new UsageError(`Cannot understand the argument '${extra}', expected ${expectedWords(command)}`, command.name);
  }
  return { command, values, words };
}

function findCommand(name: string, commands: readonly Command[]): Command {
  const command = commands.find((one) => one.name === name);
  if (command) return command;
  const names = commands.map((one) => one.name);
  const meant = nearest(name, names);
  throw new UsageError(`Cannot run '${name}': no such command, expected ${meant === undefined ? names.join(", ") : `'${meant}'`}`);
}

function unknownOption(rawName: string, name: string, allowed: readonly OptionName[], command: Command | undefined): UsageError {
  const owner = command ? `'shoal ${command.name}'` : "'shoal'";
  if (rawName.startsWith("--no-")) return new UsageError(`Cannot use '${rawName}': ${owner} has no such option`, command?.name);
  const meant = nearest(name.replaceAll("_", "-"), allowed);
  return new UsageError(
    `Cannot use '${rawName}': ${owner} has no such option${meant === undefined ? "" : `, expected perhaps '--${meant}'`}`,
    command?.name,
  );
}

function parseValue(rawName: string, option: Option<unknown>, value: string | undefined, command: Command | undefined): unknown {
  const refuse = (what: string): UsageError => new UsageError(`Cannot use '${what}', expected ${option.expected}`, command?.name);
  if (option.placeholder === null) {
    if (value !== undefined) throw refuse(`${rawName}=${value}`);
    return true;
  }
  const parsed = value === undefined ? undefined : option.parse(value);
  if (parsed === undefined) throw refuse(value === undefined ? rawName : `${rawName} ${value}`);
  return parsed;
}

function expectedWords({ maxWords, arguments: usage }: Command): string {
  return maxWords === 0 ? "options only" : `${usage} only`;
}
