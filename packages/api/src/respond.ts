/** Runs a job: all of its answers at once, given out as a stream or as a whole. */
import { type AnswerUsage, startAnswer } from "./answer.ts";
import type { AnswerToken, CallPart } from "./answerText.ts";
import type { ChoiceState, Job } from "./handlers.ts";
import { merge } from "./merge.ts";
import type { ApiOptions } from "./options.ts";
import { usageOf } from "./usage.ts";

export interface Outcome {
  readonly promptTokens: number;
  readonly cachedTokens: number;
  readonly completionTokens: number;
  readonly finishReasons: readonly string[];
}

type Heard = (outcome: Outcome) => void;

/** Each turn is what came of one answer. The engine has the requests when this returns. */
function* changes(job: Job, { engine, tokenizer }: ApiOptions, signal: AbortSignal): Generator<AsyncGenerator<ChoiceState, void>> {
  for (const [index, wish] of job.wishes.entries()) {
    const events = startAnswer(engine, tokenizer, wish, signal);
    yield (async function* () {
      let offset = 0;
      for await (const event of events) {
        const nothing = { index, reasoning: "", content: "", calls: [], tokens: [], prompt: undefined, end: undefined, offset };
        if ("end" in event) yield { ...nothing, end: event.end };
        else if ("prompt" in event) yield { ...nothing, prompt: event.prompt };
        else {
          yield { ...nothing, ...event.part };
          offset += event.part.content.length;
        }
      }
    })();
  }
}

/** @throws whatever the engine throws */
export async function whole(job: Job, options: ApiOptions, signal: AbortSignal, heard: Heard): Promise<unknown> {
  const states = job.wishes.map((_, index): ChoiceState => ({
    index,
    reasoning: "",
    content: "",
    calls: [],
    tokens: [],
    prompt: undefined,
    end: undefined,
    offset: 0,
  }));
  const tokens: AnswerToken[][] = job.wishes.map(() => []);
  const calls: CallPart[][] = job.wishes.map(() => []);
  for await (const { item } of merge([...changes(job, options, signal)])) {
    const { index, reasoning, content, end } = item;
    const before = states[index];
    if (!before) continue;
    tokens[index]?.push(...item.tokens);
    calls[index]?.push(...item.calls);
    states[index] = {
      ...before,
      reasoning: before.reasoning + reasoning,
      content: before.content + content,
      prompt: item.prompt ?? before.prompt,
      end: end ?? before.end,
    };
  }
  const choices = states.map((state, index) => ({ ...state, tokens: tokens[index] ?? [], calls: calls[index] ?? [] }));
  return job.whole(choices, conclude(job, choices, heard));
}

/** The chunks of a stream. The requests are submitted before this returns. */
export function chunks(job: Job, options: ApiOptions, signal: AbortSignal, heard: Heard): AsyncGenerator<unknown, void> {
  const streams = [...changes(job, options, signal)];
  return (async function* () {
    const ends: ChoiceState[] = [];
    const first = merge(streams);
    let opened = false;
    for await (const { item } of first) {
      // Not before: until then the answer may still be refused as a whole.
      if (!opened) yield* job.opening();
      opened = true;
      if (item.end) ends[item.index] = item;
      yield job.chunk([item]);
    }
    const usage = conclude(job, ends, heard);
    if (job.includeUsage) yield job.chunk([], usage);
  })();
}

function conclude(job: Job, choices: readonly ChoiceState[], heard: Heard): ReturnType<typeof usageOf> {
  const used: AnswerUsage[] = choices.flatMap(({ end }) => (end ? [end.usage] : []));
  const usage = usageOf(used, job.prompts);
  heard({
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_cache_hit_tokens,
    completionTokens: usage.completion_tokens,
    finishReasons: choices.flatMap(({ end }) => (end ? [end.finishReason] : [])),
  });
  return usage;
}
