/**
 * What drafts bring for chats of one stream: the same questions to engines that draft in different ways, and to one that does not, all on the same stage and in every round, each as often
 * first as last (pairs.ts). One of those compared does without drafts too: what it differs by is what such a comparison is worth.
 */
import process from "node:process";
import { Engine, type EngineOptions, type EngineRequest, GREEDY } from "@shoal/engine";
import type { LocalStage } from "@shoal/model";
import { readGolden } from "@shoal/model/testing";
import { type Speedup, order, speedup } from "./pairs.ts";

interface Way {
  readonly name: string;
  readonly drafts: NonNullable<EngineOptions["drafts"]>;
}

/** By what the command line calls them. */
export const WAYS: Readonly<Record<string, Way>> = {
  none: { name: "none again", drafts: false },
  1: { name: "1 draft", drafts: { least: 1, most: 1 } },
  2: { name: "2 drafts", drafts: { least: 2, most: 2 } },
  3: { name: "3 drafts", drafts: { least: 3, most: 3 } },
  choice: { name: "the engine's choice", drafts: {} },
};

/** A question's times: on the clock, and of the processor's threads, which other work on the machine hardly changes. Of a software adapter the second is what was computed. */
interface Answer {
  readonly text: string;
  readonly ms: number;
  readonly processorMs: number;
}

/** An engine, and what it answered to each question in each round: [questions][rounds]. */
interface Measured {
  readonly way: Way;
  readonly engine: Engine;
  readonly answers: readonly Answer[][];
}

/** @throws RangeError for ways that there are not */
export async function measureChats(
  stage: LocalStage,
  options: { readonly rounds: number; readonly ways: readonly string[] },
): Promise<void> {
  const compared = options.ways.map((key) => {
    const way = WAYS[key];
    if (!way) throw new RangeError(`Cannot measure '${key}', expected ${Object.keys(WAYS).join(", ")}`);
    return way;
  });
  const questions = await chats();
  // An engine finds out how many steps to read at once, and which drafts pay: all are new when they are measured, but no kernel is to be compiled then.
  for (const { drafts } of Object.values(WAYS)) {
    const engine = await Engine.open(stage, { drafts, prefixCache: false });
    for (let again = 0; again < 2; again++) for (const question of questions) await ask(engine, question);
    await engine.close();
  }
  const open = async (way: Way): Promise<Measured> => ({
    way,
    engine: await Engine.open(stage, { drafts: way.drafts, prefixCache: false }),
    answers: questions.map(() => []),
  });
  const plain = await open({ name: "none", drafts: false });
  const others = await Promise.all(compared.map(open));
  for (let round = 0; round < options.rounds; round++)
    for (const [index, question] of questions.entries())
      for (const { engine, answers } of order([plain, ...others], round + index)) answers[index]?.push(await ask(engine, question));
  for (const each of others) tell(each, plain, questions);
  await Promise.all([plain, ...others].map(({ engine }) => engine.close()));
}

/** To their own ends: behind its end a model has nothing to say that could be guessed. */
async function chats(): Promise<readonly EngineRequest[]> {
  const golden = await Promise.all(["capital", "story", "sum_sys", "multiturn"].map((name) => readGolden(`tiny-${name}.safetensors`)));
  return golden.map((chat) => ({
    promptIds: chat.ints("input_ids"),
    maxNewTokens: chat.ints("greedy_w8a32").length,
    sampling: GREEDY,
    stopTokenIds: [1],
  }));
}

async function ask(engine: Engine, request: EngineRequest): Promise<Answer> {
  const [begin, before] = [performance.now(), process.cpuUsage()];
  const ids: number[] = [];
  for await (const tokens of engine.submit(request)) ids.push(...tokens.map(({ id }) => id));
  const [ms, { user, system }] = [performance.now() - begin, process.cpuUsage(before)];
  return { text: ids.join(), ms, processorMs: (user + system) / 1000 };
}

function tell({ way, engine, answers }: Measured, plain: Measured, questions: readonly EngineRequest[]): void {
  const { steps, completionTokens } = engine.status().totals;
  const [all, others] = [answers.flat(), plain.answers.flat()];
  const equal = all.filter(({ text }, index) => text === others[index]?.text).length;
  console.log(
    `chats, ${way.name}: ${(completionTokens / steps).toFixed(2)} tokens a step, prompts' steps included (${equal} of ${all.length} answers equal)`,
  );
  for (const [unit, of] of [
    ["", (answer: Answer) => answer.ms],
    [" by the processor's time", (answer: Answer) => answer.processorMs],
  ] as const) {
    const times = (ours: readonly Answer[], theirs: readonly Answer[]): Speedup =>
      speedup(ours.map((answer, index) => ({ before: of(theirs[index] ?? answer), after: of(answer) })));
    console.log(`  ${shown(times(all, others))} times as fast as without${unit}`);
    for (const [index, { maxNewTokens, promptIds }] of questions.entries()) {
      const [own = [], theirs = []] = [answers[index], plain.answers[index]];
      console.log(`    ${shown(times(own, theirs))}: an answer of ${maxNewTokens} tokens to ${promptIds.length}`);
    }
  }
}

function shown({ median, low, high, pairs }: Speedup): string {
  return `${median.toFixed(3)} (95 %: ${low.toFixed(3)} to ${high.toFixed(3)}, ${pairs} pairs)`;
}
