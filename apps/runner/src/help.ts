/** The help texts, made from the tables of commands and options. */
import type { Command } from "./command.ts";
import { COMMON, OPTIONS, SHORT, type OptionName } from "./options.ts";

const WIDTH = 100;
const COLUMN = 28;

export function generalHelp(commands: readonly Command[], version: string): string {
  const list = commands.map(({ name, summary }) => `  ${name.padEnd(10)} ${summary}`);
  return [
    `shoal ${version}: DeepSeek-V3-architecture models on WebGPU`,
    "",
    "Usage: shoal COMMAND [OPTIONS] [ARGUMENTS]",
    "",
    "Commands:",
    ...list,
    "",
    "'shoal COMMAND --help' shows a command's options. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.",
    "",
  ].join("\n");
}

export function commandHelp({ name, summary, arguments: usage, options, meanings = {}, notes = [] }: Command): string {
  const all = [...options, ...COMMON];
  return [
    `Usage: shoal ${name} [OPTIONS]${usage === "" ? "" : ` ${usage}`}`,
    "",
    `${summary[0]?.toUpperCase() ?? ""}${summary.slice(1)}.`,
    "",
    "Options:",
    ...all.flatMap((option) => optionLines(option, meanings[option] ?? OPTIONS[option].help)),
    ...(notes.length > 0 ? ["", ...notes] : []),
    "",
  ].join("\n");
}

function optionLines(name: OptionName, help: string): string[] {
  const { placeholder } = OPTIONS[name];
  const short = Object.entries(SHORT).find(([, long]) => long === name)?.[0];
  const left = `  ${short === undefined ? "    " : `-${short}, `}--${name}${placeholder === null ? "" : ` ${placeholder}`}`;
  const [first = "", ...rest] = wrap(help, WIDTH - COLUMN);
  const indent = " ".repeat(COLUMN);
  const head = left.length < COLUMN - 1 ? [`${left.padEnd(COLUMN)}${first}`] : [left, indent + first];
  return [...head, ...rest.map((line) => indent + line)];
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
