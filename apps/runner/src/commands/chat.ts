/** `shoal chat`: one answer, or a conversation. */
import { type ChatSession, EngineError } from "@shoal/engine";
import type { SamplingParameters, StageDescription } from "@shoal/model";
import { ask } from "../chat/ask.ts";
import { chatSession, converse } from "../chat/conversation.ts";
import { pagingLines, summaryLine } from "../chat/stats.ts";
import type { Command, Invocation } from "../command.ts";
import { UsageError } from "../errors.ts";
import { EXIT } from "../exitCodes.ts";
import { startModel, withGpu } from "../gpu/session.ts";
import { openModel } from "../model/openModel.ts";
import { DEFAULT_MAX_NEW_TOKENS, loadOptions, samplingFrom } from "../model/runOptions.ts";
import { DEVICE, DEVICES, MODEL, RUN, SAMPLING, SWARM } from "../options.ts";

export const chatCommand: Command = {
  name: "chat",
  summary: "answer a prompt, or have a conversation",
  arguments: "[PROMPT]",
  maxWords: Number.POSITIVE_INFINITY,
  options: ["prompt", "system", ...MODEL, ...SAMPLING, ...RUN, ...DEVICE, ...DEVICES, ...SWARM],
  notes: [
    "With a prompt the answer goes to standard output and the command ends. Without one it is a conversation: /help shows its commands,",
    "Ctrl-C stops an answer, Ctrl-D leaves. Greedy unless --temperature or the model's generation_config.json says otherwise.",
  ],
  run: runChat,
};

async function runChat(invocation: Invocation): Promise<number> {
  const { values, words, terminal, interrupts } = invocation;
  const prompt = promptFrom(values.prompt, words);
  const seed = crypto.getRandomValues(new BigUint64Array(1))[0] ?? 0n;
  if (values.swarm !== undefined) {
    const { withSwarm } = await import("../swarm/client.ts");
    return withSwarm(invocation, values.swarm, async ({ model, description, generator }) => {
      const chat = chatSession(await generator(prompt === undefined ? "conversation" : "prompts"), model, values.system);
      return answer(invocation, { prompt, stage: description, chat, sampling: samplingFrom(values, model, { seed }) });
    });
  }
  return withGpu(async (client) => {
    const { model, stage, chat, sampling } = await startModel(client, invocation, async () => {
      const model = await openModel(values, interrupts.signal);
      const load = await loadOptions(values, model.checkpoint.config);
      const chat = chatSession(client, model, values.system);
      if (prompt !== undefined) checkLength(chat.promptIds(prompt).length, load.contextTokens);
      const sampling = samplingFrom(values, model, { seed });
      return { model, load, chat, sampling };
    });
    for (const warning of model.warnings) terminal.err(`Warning: ${warning}\n`);
    const code = await answer(invocation, { prompt, stage, chat, sampling });
    for (const line of pagingLines(await client.paging())) terminal.err(`[${line}]\n`);
    return code;
  });
}

interface Ready {
  readonly prompt: string | undefined;
  readonly stage: Pick<StageDescription, "contextTokens">;
  readonly chat: ChatSession;
  readonly sampling: SamplingParameters;
}

async function answer(invocation: Invocation, { prompt, stage, chat, sampling }: Ready): Promise<number> {
  const { values, terminal, interrupts } = invocation;
  if (prompt === undefined) return converse(invocation, chat, stage, { sampling, alwaysAsk: false });
  const { timings } = await ask(terminal, chat, prompt, {
    maxNewTokens: values["max-new-tokens"] ?? DEFAULT_MAX_NEW_TOKENS,
    sampling,
    signal: interrupts.signal,
  });
  terminal.out("\n");
  terminal.err(`[${summaryLine(timings)}]\n`);
  return EXIT.ok;
}

/** A prompt is given by the flag or as words, which need no quotes then. */
export function promptFrom(flag: string | undefined, words: readonly string[]): string | undefined {
  if (words.length === 0) return flag;
  if (flag !== undefined) throw new UsageError(`Cannot use both '--prompt' and the argument '${words[0]}', expected one prompt`);
  const prompt = words.join(" ").trim();
  if (prompt === "") throw new UsageError("Cannot answer an empty prompt, expected some text");
  return prompt;
}

/** As the engine does, but before the model is loaded. */
export function checkLength(tokens: number, context: number): void {
  if (tokens <= context) return;
  throw new EngineError("prompt-too-long", `Cannot run the prompt: it has ${tokens} tokens, expected at most ${context}`, {
    actual: tokens,
    expected: context,
  });
}
