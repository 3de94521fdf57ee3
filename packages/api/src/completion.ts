/** Plain completions: text goes on where a prompt ends, or fills in a middle. */
import { invalidField } from "./errors.ts";
import { checkGeneration, checkModel, checkPrompt, wishesFor } from "./generation.ts";
import { type ChoiceState, type Job, now } from "./handlers.ts";
import { FIELD_LIMITS } from "./limits.ts";
import { type CompletionLogprobs, completionLogprobs, echoOf, joined, promptLogprobs } from "./logprobs.ts";
import type { ApiOptions, ServedModel } from "./options.ts";
import { contentGrammar } from "./output.ts";
import { fimPrompt } from "./prompt.ts";
import type { Completion } from "./schemas/answers.ts";
import { type CompletionRequest, completionRequest } from "./schemas/completions.ts";
import { validate } from "./validate.ts";

/** OpenAI's. */
const DEFAULT_COMPLETION_TOKENS = 16;

export function completionJob(body: unknown, { engine, tokenizer, model }: ApiOptions): Job {
  const fields = validate(completionRequest, body);
  checkTogether(fields, model);
  const { n = 1, echo = false, logprobs, suffix = "", max_tokens: maxNewTokens = DEFAULT_COMPLETION_TOKENS } = fields;
  const prompts = promptsOf(fields.prompt).map((prompt) => {
    if (suffix !== "") return fimPrompt(prompt, suffix, tokenizer);
    return typeof prompt === "string" ? tokenizer.encode(prompt, { addSpecialTokens: true }) : prompt;
  });
  if (prompts.length * n > FIELD_LIMITS.choices)
    throw invalidField(
      "n",
      `Cannot use 'n': ${prompts.length} prompts make ${prompts.length * n} answers, expected at most ${FIELD_LIMITS.choices}`,
    );
  const { contextTokens } = engine.status();
  for (const ids of prompts) {
    checkPrompt(ids, contextTokens, "prompt");
    const beyond = ids.find((id) => id >= model.vocabSize);
    if (beyond !== undefined)
      throw invalidField("prompt", `Cannot use 'prompt': it has the token ${beyond}, expected ids from 0 to ${model.vocabSize - 1}`);
  }
  const content = contentGrammar(fields);
  const constraint = content && { grammar: content.grammar };
  const tellsPrompt = echo && logprobs !== undefined;
  const wishes = prompts.flatMap((promptIds) =>
    wishesFor(fields, model, {
      promptIds,
      maxNewTokens,
      topLogprobs: logprobs,
      promptLogprobs: tellsPrompt,
      reasoning: "none",
      constraint,
    }),
  );
  const echoes = echo ? prompts.map((ids) => echoOf(ids, tokenizer)) : [];
  /** Of a choice: its prompt's. */
  const echoFor = (index: number): (typeof echoes)[number] | undefined => echoes[Math.floor(index / n)];
  const head = { id: `cmpl-${crypto.randomUUID()}`, created: now(), model: model.id, object: "text_completion" as const };
  const includeUsage = fields.stream_options?.include_usage === true;
  const logprobsOf = ({ index, tokens, prompt, offset }: ChoiceState): CompletionLogprobs | null => {
    if (logprobs === undefined) return null;
    const echoed = echoFor(index);
    const own = completionLogprobs(tokens, tokenizer, offset + (echoed?.text.length ?? 0));
    const ids = prompts[Math.floor(index / n)];
    return prompt && echoed && ids ? joined(promptLogprobs(ids, prompt, echoed, tokenizer), own) : own;
  };
  const choice = (state: ChoiceState, text: string): Completion["choices"][number] => ({
    index: state.index,
    text,
    logprobs: logprobsOf(state),
    finish_reason: state.end?.finishReason ?? null,
  });
  return {
    body: fields,
    textField: "prompt",
    constraintField: content?.field ?? "structured_outputs",
    prompts,
    wishes,
    stream: fields.stream === true,
    includeUsage,
    // With log probabilities the prompt comes when these are known.
    opening: () =>
      echo && !tellsPrompt
        ? wishes.map((_, index) => ({
            ...head,
            choices: [{ index, text: echoFor(index)?.text ?? "", logprobs: null, finish_reason: null }],
          }))
        : [],
    chunk: (choices, usage): Completion => ({
      ...head,
      choices: choices.map((state) => choice(state, (state.prompt ? (echoFor(state.index)?.text ?? "") : "") + state.content)),
      ...(includeUsage && { usage: usage ?? null }),
    }),
    whole: (choices, usage): Completion => ({
      ...head,
      choices: choices.map((state) => choice(state, (echoFor(state.index)?.text ?? "") + state.content)),
      usage,
    }),
  };
}

/** @throws ApiError 400 for fields that are right by themselves but not together, or not for this model */
function checkTogether(fields: CompletionRequest, model: ServedModel): void {
  checkModel(fields.model, model);
  checkGeneration(fields, model);
  const { n = 1, best_of: bestOf, echo = false, suffix = "", max_tokens: maxTokens } = fields;
  if (bestOf !== undefined && bestOf !== n)
    throw invalidField("best_of", `Cannot use 'best_of': it is ${bestOf}, expected as many as 'n', ${n}: all answers are given`);
  if (echo && suffix !== "")
    throw invalidField("echo", "Cannot use 'echo' with 'suffix': the answer is between two texts, expected one of them");
  if (maxTokens === 0 && !echo) throw invalidField("max_tokens", "Cannot use 'max_tokens': it is 0, expected at least 1 without 'echo'");
}

function promptsOf(
  prompt: string | readonly string[] | readonly number[] | readonly (readonly number[])[],
): readonly (string | readonly number[])[] {
  if (typeof prompt === "string") return [prompt];
  return typeof prompt[0] === "number" || prompt.length === 0
    ? [prompt as readonly number[]]
    : (prompt as readonly (string | readonly number[])[]);
}
