import { describe, expect, it } from "vitest";
import { parseCommandLine } from "./args.ts";
import type { Command } from "./command.ts";
import { EXIT } from "./exitCodes.ts";
import { commandHelp, generalHelp } from "./help.ts";
import { SAMPLING } from "./options.ts";

const run = (): Promise<number> => Promise.resolve(EXIT.ok);
const generate: Command = {
  name: "generate",
  summary: "complete prompts",
  arguments: "[PROMPT]",
  maxWords: Number.POSITIVE_INFINITY,
  options: ["prompt", "input-file", "interactive", "json", "mode", ...SAMPLING],
  run,
};
const doctor: Command = { name: "doctor", summary: "look around", arguments: "", maxWords: 0, options: ["json"], run };
const commands = [generate, doctor];
const parse = (...args: string[]) => parseCommandLine(args, commands);

describe("parseCommandLine()", () => {
  it("gives a command's options parsed, and its words", () => {
    const line = parse(
      "generate",
      "--temperature",
      "0.7",
      "--top-k=40",
      "--seed",
      "18446744073709551615",
      "--interactive",
      "Hello",
      "there",
    );
    expect(line.command).toBe(generate);
    expect(line.values).toEqual({ temperature: 0.7, "top-k": 40, seed: 18446744073709551615n, interactive: true });
    expect(line.words).toEqual(["Hello", "there"]);
  });

  it("takes short options, options before the command, and what follows -- as words", () => {
    expect(parse("--json", "doctor").values).toEqual({ json: true });
    expect(parse("generate", "-p", "Hi").values).toEqual({ prompt: "Hi" });
    expect(parse("generate", "--", "--seed").words).toEqual(["--seed"]);
    expect(parse("doctor", "-h").values).toEqual({ help: true });
  });

  it("names an unknown option and the known one that is nearest", () => {
    expect(() => parse("generate", "--max-new-token", "3")).toThrow(
      "Cannot use '--max-new-token': 'shoal generate' has no such option, expected perhaps '--max-new-tokens'",
    );
    expect(() => parse("generate", "--max_new_tokens", "3")).toThrow("'--max-new-tokens'");
    expect(() => parse("generate", "--temprature=1")).toThrow("'--temperature'");
    expect(() => parse("doctor", "--xyzzy")).toThrow(/Cannot use '--xyzzy': 'shoal doctor' has no such option$/);
  });

  it("refuses an option of another command", () => {
    expect(() => parse("doctor", "--seed", "1")).toThrow("'shoal doctor' has no such option");
  });

  it("names an unknown command and the known one that is nearest", () => {
    expect(() => parse("genrate")).toThrow("Cannot run 'genrate': no such command, expected 'generate'");
    expect(() => parse("frobnicate")).toThrow("expected generate, doctor");
  });

  it.each([
    ["--temperature", "hot", "a number from 0 to 100"],
    ["--temperature", "-1", "a number from 0 to 100"],
    ["--temperature", "1e400", "a number from 0 to 100"],
    ["--top-p", "0", "a number above 0 and up to 1"],
    ["--top-p", "NaN", "a number above 0 and up to 1"],
    ["--top-k", "1.5", "an integer from 0 to 16777216"],
    ["--max-new-tokens", "0", "an integer from 1 to 16777216"],
    ["--seed", "-1", "an integer from 0 to 2^64 - 1"],
    ["--seed", "18446744073709551616", "an integer from 0 to 2^64 - 1"],
    ["--mode", "w4a4", "w8a32 or w8a8"],
    ["--prompt", "", "some text"],
  ])("refuses %s %s", (flag, value, expected) => {
    expect(() => parse("generate", flag, value)).toThrow(`Cannot use '${flag} ${value}', expected ${expected}`);
  });

  it("refuses an option without its value, a switch with one, and the same option twice", () => {
    expect(() => parse("generate", "--seed")).toThrow("Cannot use '--seed', expected an integer");
    expect(() => parse("doctor", "--json=yes")).toThrow("Cannot use '--json=yes', expected no value");
    expect(() => parse("generate", "--seed", "1", "--seed", "2")).toThrow("Cannot use '--seed' twice");
  });

  it("refuses words where a command takes none", () => {
    expect(() => parse("doctor", "now")).toThrow("Cannot understand the argument 'now', expected options only");
  });

  it("gives no command where none is named", () => {
    expect(parse("--version")).toEqual({ command: undefined, values: { version: true }, words: [] });
    expect(() => parse("--seed", "1")).toThrow("Cannot use '--seed'");
  });
});

describe("help", () => {
  it("lists every command, and every option of a command", () => {
    const text = generalHelp(commands, "1.2.3");
    expect(text).toContain("shoal 1.2.3");
    for (const { name, summary } of commands) expect(text).toMatch(new RegExp(`${name} +${summary}`));
    const own = commandHelp(generate);
    for (const name of [...generate.options, "help", "verbose"]) expect(own).toContain(`--${name}`);
    expect(Math.max(...own.split("\n").map((line) => line.length))).toBeLessThanOrEqual(100);
  });
});
