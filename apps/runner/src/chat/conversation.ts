/** A chat session on a model in the worker. */
import { ChatSession, type TokenGenerator, stopTokenIds } from "@shoal/engine";
import type { SamplingParameters, StageDescription } from "@shoal/model";
import type { Invocation } from "../command.ts";
import { EXIT } from "../exitCodes.ts";
import { type OpenModel, templateOf, tokenizerOf } from "../model/openModel.ts";
import { DEFAULT_MAX_NEW_TOKENS } from "../model/runOptions.ts";
import { ask } from "./ask.ts";
import { openLineInput } from "./lineInput.ts";
import { runRepl } from "./repl.ts";
import { ChatStats } from "./stats.ts";

/** Reads no weights and needs no device: for checks of prompts before loading as well. */
export function chatSession(generator: TokenGenerator, model: OpenModel, system: string | undefined): ChatSession {
  const tokenizer = tokenizerOf(model);
  const template = templateOf(model, tokenizer);
  return new ChatSession({
    tokenizer,
    template,
    generator,
    stopTokenIds: stopTokenIds(model.checkpoint.config, tokenizer),
    system,
  });
}

export async function converse(
  { terminal, interrupts, values }: Invocation,
  chat: ChatSession,
  stage: Pick<StageDescription, "contextTokens">,
  { sampling, alwaysAsk }: { readonly sampling: SamplingParameters; readonly alwaysAsk: boolean },
): Promise<number> {
  const maxNewTokens = values["max-new-tokens"] ?? DEFAULT_MAX_NEW_TOKENS;
  const input = openLineInput(terminal);
  if (terminal.inIsTerminal) terminal.err("Type a message; /help shows commands, /exit leaves\n");
  try {
    return await runRepl({
      terminal,
      input,
      interrupts,
      stats: new ChatStats(),
      contextTokens: stage.contextTokens,
      alwaysAsk,
      clear: () => chat.clear(),
      answer: (text, signal) => ask(terminal, chat, text, { maxNewTokens, sampling, signal }),
      verbose: values.verbose === true,
    });
  } catch (error) {
    if (interrupts.signal.aborted) return EXIT.interrupted;
    throw error;
  } finally {
    await input.close();
  }
}
