/** `shoal generate`: the flags and the output of DeepSeek's generate.py, streamed. */
import { readFile } from "node:fs/promises";
import type { ChatSession, ChatTurn } from "@shoal/engine";
import type { SamplingParameters } from "@shoal/model";
import { ask } from "../chat/ask.ts";
import { chatSession, converse } from "../chat/conversation.ts";
import { pagingLines, predictionLine, summaryLine, tokensPerSecond } from "../chat/stats.ts";
import type { Command, Invocation } from "../command.ts";
import { RunnerError, UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { startModel, withGpu } from "../gpu/session.ts";
import { openModel } from "../model/openModel.ts";
import { DEFAULT_MAX_NEW_TOKENS, DEFAULT_SEED, loadOptions, samplingFrom } from "../model/runOptions.ts";
import { DEVICE, DEVICES, MODEL, RUN, SAMPLING, SWARM, type Values } from "../options.ts";
import type { Terminal } from "../terminal.ts";
import { checkLength, promptFrom } from "./chat.ts";

/** The demo's. */
const DEFAULT_TEMPERATURE = 0.2;

export const generateCommand: Command = {
  name: "generate",
  summary: "complete prompts, with the flags and the output of DeepSeek's generate.py",
  arguments: "[PROMPT]",
  maxWords: Number.POSITIVE_INFINITY,
  options: ["prompt", "input-file", "interactive", "json", "system", ...MODEL, ...SAMPLING, ...RUN, ...DEVICE, ...DEVICES, ...SWARM],
  notes: [
    "Prompts come from --input-file, as an argument, or from standard input when it is a pipe. Each is a chat of one turn.",
    `The default temperature is ${DEFAULT_TEMPERATURE}, the default seed ${DEFAULT_SEED}: as in the demo, the same command gives the same text.`,
    "--json prints one object a line: prompt, completion, ids, finishReason, timings.",
  ],
  run: runGenerate,
};

async function runGenerate(invocation: Invocation): Promise<number> {
  const { values, words, terminal, interrupts } = invocation;
  if (values.json === true && values.interactive === true)
    throw new UsageError("Cannot use '--json' with '--interactive', expected one of them");
  const prompts = values.interactive === true ? null : await readPrompts(values, words, terminal, interrupts.signal);
  const defaults = { temperature: DEFAULT_TEMPERATURE, seed: DEFAULT_SEED };
  if (values.swarm !== undefined) {
    const { withSwarm } = await import("../swarm/client.ts");
    return withSwarm(invocation, values.swarm, async ({ model, description, generator }) => {
      const chat = chatSession(await generator(prompts === null ? "conversation" : "prompts"), model, values.system);
      const sampling = samplingFrom(values, model, defaults);
      return prompts === null
        ? converse(invocation, chat, description, { sampling, alwaysAsk: true })
        : complete(invocation, prompts, chat, sampling);
    });
  }
  return withGpu(async (client) => {
    const { model, stage, chat, sampling, load } = await startModel(client, invocation, async () => {
      const model = await openModel(values, interrupts.signal);
      const load = await loadOptions(values, model.checkpoint.config);
      const chat = chatSession(client, model, values.system);
      for (const prompt of prompts ?? []) checkLength(chat.promptIds(prompt).length, load.contextTokens);
      const sampling = samplingFrom(values, model, defaults);
      return { model, load, chat, sampling };
    });
    for (const warning of model.warnings) terminal.err(`Warning: ${warning}\n`);
    const code =
      prompts === null
        ? await converse(invocation, chat, stage, { sampling, alwaysAsk: true })
        : await complete(
            invocation,
            prompts,
            chat,
            sampling,
            load.fleet && "plan" in load.fleet ? load.fleet.plan.decodeSeconds : undefined,
          );
    for (const line of pagingLines(await client.paging())) terminal.err(`[${line}]\n`);
    return code;
  });
}

async function complete(
  { values, terminal, interrupts }: Invocation,
  prompts: readonly string[],
  chat: ChatSession,
  sampling: SamplingParameters,
  predictedSeconds?: number,
): Promise<number> {
  const { signal } = interrupts;
  const maxNewTokens = values["max-new-tokens"] ?? DEFAULT_MAX_NEW_TOKENS;
  const json = values.json === true;
  for (const prompt of prompts) {
    chat.clear();
    if (!json) terminal.out(`Prompt: ${prompt}\n`);
    const turn = await ask(terminal, chat, prompt, { maxNewTokens, sampling, signal, before: "Completion: ", quiet: json });
    terminal.out(json ? `${jsonLine(prompt, turn)}\n` : "\n\n");
    terminal.err(`[${summaryLine(turn.timings)}]\n`);
    const prediction = predictionLine(predictedSeconds, turn.timings);
    if (prediction !== undefined) terminal.err(`[${prediction}]\n`);
  }
  return EXIT.ok;
}

function jsonLine(prompt: string, { text, ids, finishReason, timings }: ChatTurn): string {
  return JSON.stringify({
    prompt,
    completion: text,
    ids,
    finishReason,
    timings: { ...timings, tokensPerSecond: tokensPerSecond(timings) },
  });
}

async function readPrompts(values: Values, words: readonly string[], terminal: Terminal, signal: AbortSignal): Promise<readonly string[]> {
  const prompt = promptFrom(values.prompt, words);
  const file = values["input-file"];
  if (prompt !== undefined && file !== undefined) throw new UsageError("Cannot use both '--input-file' and a prompt, expected one of them");
  if (prompt !== undefined) return [prompt];
  if (file !== undefined) return linesOf(await readText(file), `'${file}'`);
  const piped = terminal.inIsTerminal ? "" : (await terminal.readAll(signal)).trim();
  // The demo's words.
  if (piped === "") throw new UsageError("Either input-file or interactive mode must be specified", "generate");
  return [piped];
}

function linesOf(text: string, source: string): readonly string[] {
  const lines = text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (lines.length === 0) throw new RunnerError(`Cannot complete the prompts of ${source}: it has none, expected one on a line`);
  return lines;
}

async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
    throw new RunnerError(
      `Cannot read '${path}': ${code === "ENOENT" ? "it does not exist" : `it failed (${code})`}, expected a file of prompts`,
      {
        cause,
      },
    );
  }
}
