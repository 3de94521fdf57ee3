/**
 * What drafts bring for chats of one stream: the same questions to engines that draft in different ways, and to one that does not, all on the same stage and in every round, each as often
 * first as last (pairs.ts). One of those compared does without drafts too: what it differs by is what such a comparison is worth.
 *
 * An engine finds out how many steps to read at once, and which drafts pay, and then goes on so: two that do the same may differ by a tenth for thousands of tokens. So there are several sets of
 * new engines, and what counts is one number of each set: by answers the median time with and without, for all the sums of these.
 */
import process from "node:process";
import { Engine, type EngineOptions, type EngineRequest, GREEDY } from "@shoal/engine";
import type { LocalStage } from "@shoal/model";
import { readGolden } from "@shoal/model/testing";
import { type Speedup, median, order, speedup } from "./pairs.ts";

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

/** What an engine answered to each question in each round: [questions][rounds]. */
interface Measured {
  readonly answers: readonly Answer[][];
  readonly tokens: number;
  readonly steps: number;
}

/** A set of engines: one without drafts, and one of each way. */
interface Compared {
  readonly plain: Measured;
  readonly others: readonly Measured[];
}

export interface ChatOptions {
  /** Sets of new engines. */
  readonly sets: number;
  /** In which each engine of a set answers each question once. */
  readonly rounds: number;
  /** Keys of WAYS. */
  readonly ways: readonly string[];
}

/** @throws RangeError for ways that there are not */
export async function measureChats(stage: LocalStage, { sets, rounds, ways: keys }: ChatOptions): Promise<void> {
  const ways = keys.map((key) => {
    const way = WAYS[key];
    if (!way) throw new RangeError(`Cannot measure '${key}', expected ${Object.keys(WAYS).join(", ")}`);
    return way;
  });
  const questions = await chats();
  // No kernel is to be compiled later.
  for (const { drafts } of Object.values(WAYS)) {
    const engine = await Engine.open(stage, { drafts, prefixCache: false });
    for (let again = 0; again < 2; again++) for (const question of questions) await ask(engine, question);
    await engine.close();
  }
  const compared: Compared[] = [];
  for (let set = 0; set < sets; set++) compared.push(await compare(stage, questions, ways, rounds));
  for (const [index, way] of ways.entries()) tell(way, index, compared, questions);
}

async function compare(stage: LocalStage, questions: readonly EngineRequest[], ways: readonly Way[], rounds: number): Promise<Compared> {
  const open = async ({ drafts }: Pick<Way, "drafts">): Promise<{ engine: Engine; answers: Answer[][] }> => ({
    engine: await Engine.open(stage, { drafts, prefixCache: false }),
    answers: questions.map(() => []),
  });
  const all = await Promise.all([{ drafts: false } as const, ...ways].map(open));
  for (let round = 0; round < rounds; round++)
    for (const [index, question] of questions.entries())
      for (const { engine, answers } of order(all, round + index)) answers[index]?.push(await ask(engine, question));
  const measured = await Promise.all(
    all.map(async ({ engine, answers }) => {
      const { steps, completionTokens: tokens } = engine.status().totals;
      await engine.close();
      return { answers, steps, tokens };
    }),
  );
  const [plain, ...others] = measured;
  if (!plain) throw new RangeError("There is no engine without drafts");
  return { plain, others };
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

function tell({ name }: Way, way: number, sets: readonly Compared[], questions: readonly EngineRequest[]): void {
  const pairs = sets.flatMap(({ plain, others }) => {
    const drafting = others[way];
    return drafting ? [{ plain, drafting }] : [];
  });
  const total = (of: (measured: Measured) => number): number => pairs.reduce((sum, { drafting }) => sum + of(drafting), 0);
  const texts = pairs.flatMap(({ plain, drafting }) => {
    const others = plain.answers.flat();
    return drafting.answers.flat().map(({ text }, index) => text === others[index]?.text);
  });
  const tokens = (total((one) => one.tokens) / total((one) => one.steps)).toFixed(2);
  console.log(
    `chats, ${name}: ${tokens} tokens a step, prompts' steps included (${texts.filter(Boolean).length} of ${texts.length} answers equal)`,
  );
  for (const [unit, of] of [
    ["", (answer: Answer) => answer.ms],
    [" by the processor's time", (answer: Answer) => answer.processorMs],
  ] as const) {
    const times = ({ answers }: Measured): readonly number[] => answers.map((rounds) => median(rounds.map(of)));
    const faster = (take: (times: readonly number[]) => number): string =>
      shown(speedup(pairs.map(({ plain, drafting }) => ({ before: take(times(plain)), after: take(times(drafting)) }))));
    console.log(`  ${faster((each) => each.reduce((sum, ms) => sum + ms, 0))} times as fast as without${unit}`);
    for (const [index, { maxNewTokens, promptIds }] of questions.entries())
      console.log(`    ${faster((each) => each[index] ?? 0)}: an answer of ${maxNewTokens} tokens to ${promptIds.length}`);
  }
}

function shown({ median: middle, low, high, pairs }: Speedup): string {
  const sure = Number.isFinite(low) ? `95 %: ${low.toFixed(2)} to ${high.toFixed(2)}` : "too few to say how sure";
  return `${middle.toFixed(3)} (${sure}, ${pairs} sets)`;
}
