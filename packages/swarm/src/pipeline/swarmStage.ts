/**
 * The model over a path of peers, as one Stage. What every stage was given is kept; when one is lost, stalls or answers nonsense, only its layers are opened elsewhere, get the same inputs
 * again, and whatever was under way goes on: tokens that are out do not change. (As Petals' inference session does.)
 *
 * The sequences of a step form groups, as many as the path has stages, and each group goes its own way: while one is at the second stage another is at the first, and nobody waits for
 * others. What is done for one sequence is done in the order in which it was asked for, and a step that only samples returns at once, as with `PipelineStage`. So what fails later, for want
 * of peers above all, fails the calls that follow for its sequences.
 *
 * Where the last stage has an MTP module it drafts in the same step in which it chooses, so a step that verifies costs no way more than another: `draft` only hands out what came with the
 * tokens, after a step that was told to expect it because the one before was followed by `draft` too. The first ones are made up, and so are those that a stage without the module
 * would have to give: drafts decide about nothing. Chained steps and prefixes are refused.
 */
import { type Choice, Choices, checkBatch } from "@shoal/cluster";
import {
  type Batch,
  type ChosenLogprobs,
  type KvBlock,
  type KvSnapshot,
  ModelError,
  type SamplingParameters,
  type SequenceSlot,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
  toldRows,
} from "@shoal/model";
import type { Hop } from "../plan/path.ts";
import type { ActiveHop } from "./hop.ts";
import { ActivePath, type ActivePathOptions } from "./activePath.ts";
import { SequenceHistory } from "./history.ts";
import { type ObservedStep, Step, type StepDone, type StepEntry } from "./step.ts";

/** Steps of drafts that can be read. */
const KEPT_DRAFTS = 64;

export interface SwarmStageOptions extends ActivePathOptions {
  /** For whoever looks over the peers' shoulders (audit.ts). */
  readonly onStep?: (step: ObservedStep) => void;
  /** That sequences are divided into; by default as many as the path has stages. */
  readonly groups?: number;
}

interface Sequence {
  readonly history: SequenceHistory;
  readonly group: number;
  /** Whether a token is, or is to be, chosen for it. */
  chooses: boolean;
  /** The last thing that was asked for it. */
  tail: Promise<unknown>;
  /** What became of it, for all that follows. */
  failure: unknown;
  /** What was drafted after its last step, and by whom. */
  made: { readonly ids: readonly number[]; readonly by: ActiveHop | undefined };
  /** What was given out of it, to be verified. */
  guesses: readonly number[];
}

const NOTHING_MADE: Pick<Sequence, "made" | "guesses"> = { made: { ids: [], by: undefined }, guesses: [] };

export class SwarmStage implements Stage {
  readonly #options: SwarmStageOptions;
  readonly #path: ActivePath;
  readonly #sequences = new Map<SequenceSlot, Sequence>();
  /** Of those that are open, or being opened: what a stage that is replaced must have. */
  readonly #histories: Map<SequenceSlot, SequenceHistory>;
  readonly #choices = new Choices();
  /** When the path was opened: what was said once is held to. */
  readonly #hadMtp: boolean;
  readonly #drafted = new Map<number, readonly number[]>();
  #nextSlot = 0;
  #step = 0;
  /** That were asked for after the last step. */
  #draftsAsked = 0;

  private constructor(options: SwarmStageOptions, path: ActivePath, histories: Map<SequenceSlot, SequenceHistory>) {
    this.#options = options;
    this.#path = path;
    this.#histories = histories;
    this.#hadMtp = canVerify(path.last);
  }

  /** @throws SwarmError incomplete where no path comes about within the patience */
  static async open(options: SwarmStageOptions): Promise<SwarmStage> {
    const histories = new Map<SequenceSlot, SequenceHistory>();
    const path = await ActivePath.open(options, histories);
    return new SwarmStage(options, path, histories);
  }

  get path(): readonly Hop[] {
    return this.#path.hops.map(({ hop }) => hop);
  }

  /** Stages that were opened elsewhere since the beginning. */
  get replaced(): number {
    return this.#path.replaced;
  }

  /** Stages that gave what they had to their successors before they left. */
  get handedOver(): number {
    return this.#path.handedOver;
  }

  /** Of what is kept for rebuilding stages. */
  get historyBytes(): number {
    let sum = 0;
    for (const history of this.#histories.values()) sum += history.bytes();
    return sum;
  }

  async describe(): Promise<StageDescription> {
    return this.#description();
  }

  #description(): StageDescription {
    const all = this.#path.hops.map(({ description }) => description);
    const least = (of: (one: StageDescription) => number): number => Math.min(...all.map(of));
    const last = this.#path.last.description;
    const drafts = this.#hadMtp;
    return {
      layers: { begin: 0, end: this.#options.nLayers },
      hasEmbedding: true,
      hasHead: true,
      hasMtp: drafts,
      vocabSize: this.#options.vocabSize,
      contextTokens: least(({ contextTokens }) => contextTokens),
      maxSequences: least(({ maxSequences }) => maxSequences),
      maxTokens: least(({ maxTokens }) => maxTokens),
      maxOutputs: last.maxOutputs,
      maxDrafts: drafts ? last.maxDrafts : 0,
      chainsDrafts: false,
      memory: {},
      freeKvBlocks: least(({ freeKvBlocks }) => freeKvBlocks),
      kvBlockSize: Math.max(...all.map(({ kvBlockSize }) => kvBlockSize)),
    };
  }

  async open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    if (prefix.length > 0) await refused("begin with KV blocks of others");
    this.#path.check();
    const sequence = this.#nextSlot++ as SequenceSlot;
    const history = new SequenceHistory(this.#options.hiddenSize);
    // From now on a stage that is replaced has it too.
    this.#histories.set(sequence, history);
    try {
      await this.#path.everywhere(async (hop) => {
        if (!hop.slots.has(sequence)) hop.slots.set(sequence, await hop.call(hop.stage.open()));
      });
    } catch (error) {
      await this.#forget(sequence);
      throw error;
    }
    const used = Array.from({ length: this.#options.groups ?? this.#path.hops.length }, () => 0);
    for (const { group } of this.#sequences.values()) if (group < used.length) used[group] = (used[group] ?? 0) + 1;
    const group = used.indexOf(Math.min(...used));
    this.#sequences.set(sequence, { history, group, chooses: false, tail: Promise.resolve(), failure: undefined, ...NOTHING_MADE });
    return sequence;
  }

  retain(): Promise<readonly KvBlock[]> {
    return refused("keep KV blocks");
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    if (blocks.length > 0) await refused("release KV blocks");
  }

  exportKv(): Promise<KvSnapshot> {
    return refused("export KV rows");
  }

  importKv(): Promise<SequenceSlot> {
    return refused("import KV rows");
  }

  async truncate(sequence: SequenceSlot, length: number): Promise<void> {
    const held = this.#sequence(sequence);
    await this.#inTurn([held], () =>
      this.#path.recovery.walk(async () => {
        held.history.truncate(length);
        this.#cut(this.#path.hops, sequence, length);
      }),
    );
  }

  async close(sequence: SequenceSlot): Promise<void> {
    const { tail } = this.#sequence(sequence);
    this.#sequences.delete(sequence);
    await tail.catch(() => undefined);
    await this.#forget(sequence);
  }

  async setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    const held = this.#sequence(sequence);
    await this.#inTurn([held], () => {
      held.history.sampling = { parameters, ...(history && { history }) };
      held.history.chosen = [];
      return this.#path.onLast((hop) => hop.call(hop.stage.setSampling(hop.slot(sequence), parameters, history)));
    });
  }

  async forward(batch: Batch): Promise<StepOutput> {
    this.#path.check();
    checkBatch(batch, this.#description(), (sequence) => this.#sequence(sequence));
    for (const { sequence, tokens, verify = 0 } of batch.entries) {
      const { chooses, failure } = this.#sequence(sequence);
      if (failure !== undefined) throw failure;
      if (verify > 0 && (!this.#hadMtp || tokens === "sampled"))
        throw new ModelError("unsupported", "Cannot verify a draft: expected a path with an MTP module, and tokens that are named");
      if (tokens === "sampled" && !chooses)
        throw new ModelError("bad-batch", `Cannot go on with a sampled token: sequence ${sequence} has none`);
    }
    const { output } = batch;
    const step = this.#step++;
    const groups = new Map<number, number[]>();
    // Whoever wants rows back waits for all of them.
    const isOne = output !== "sample" && output !== "none";
    for (const [index, { sequence }] of batch.entries.entries()) {
      const group = isOne ? 0 : this.#sequence(sequence).group;
      groups.set(group, [...(groups.get(group) ?? []), index]);
    }
    const drafts = this.#draftsAsked;
    this.#draftsAsked = 0;
    const running = [...groups.values()].map((indices) => ({ indices, done: this.#pass(batch, indices, drafts) }));
    this.#choices.add(
      step,
      running.map(({ indices, done }) => choiceOf(batch, indices, done)),
    );
    const [first] = running;
    return isOne && first ? { ...(await first.done).output, step } : { step };
  }

  async draft({ entries, output, drafts: count = 1, chain = false }: Batch): Promise<StepOutput> {
    this.#path.check();
    if (!this.#hadMtp || output !== "sample" || chain)
      throw new ModelError("unsupported", "Cannot draft: expected a path with an MTP module, and a step that samples and is not chained");
    this.#draftsAsked = count;
    const step = this.#step;
    this.#step += count;
    const streams = entries.filter(({ quiet }) => quiet !== true).map(({ sequence }) => this.#sequence(sequence));
    for (const held of streams) {
      // What is missing is made up; it is as right as chance has it.
      held.guesses = Array.from({ length: count }, (_, index) => held.made.ids[index] ?? 0);
      held.history.drafts = true;
    }
    for (let index = 0; index < count; index++) {
      this.#choices.add(step + index, []);
      this.#drafted.set(
        step + index,
        streams.map(({ guesses }) => guesses[index] ?? 0),
      );
      this.#drafted.delete(step + index - KEPT_DRAFTS);
    }
    return { step };
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return Array.from({ length: count }, (_, index) => {
      const ids = this.#drafted.get(first + index);
      if (!ids) throw new ModelError("bad-batch", `Cannot read the drafts of step ${first + index}: it made none, or long ago`);
      return ids;
    });
  }

  sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#choices.read(first, count, ({ ids }) => ids);
  }

  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#choices.read(first, count, async ({ ids, toldLogprobs }) => {
      await ids;
      return toldLogprobs() ?? [];
    });
  }

  async destroy(): Promise<void> {
    this.#path.close();
    await Promise.allSettled([...this.#sequences.values()].map(({ tail }) => tail));
  }

  #sequence(slot: SequenceSlot): Sequence {
    const sequence = this.#sequences.get(slot);
    if (!sequence) throw new ModelError("unknown-sequence", `Cannot use sequence ${slot}: it is not open`);
    return sequence;
  }

  /** Some entries of a batch, through all stages. */
  #pass(batch: Batch, indices: readonly number[], drafts: number): Promise<StepDone> {
    const given = indices.flatMap((index) => batch.entries[index] ?? []);
    const sequences = given.map(({ sequence }) => this.#sequence(sequence));
    if (batch.output === "sample") for (const [index, held] of sequences.entries()) held.chooses ||= given[index]?.quiet !== true;
    return this.#inTurn(sequences, () =>
      this.#path.recovery.walk(async () => {
        const entries = given.map(({ tokens: named, verify = 0, ...entry }, index): StepEntry => {
          const { history, guesses } = sequences[index] ?? this.#sequence(entry.sequence);
          // There is one: nothing that was to choose it has failed.
          const tokens = named === "sampled" ? [history.last ?? 0] : named;
          const verified = Array.from({ length: verify }, (_, guess) => guesses[guess] ?? 0);
          return { given: { ...entry, tokens, ...(verify > 0 && { verify }) }, history, tokens: [...tokens, ...verified] };
        });
        const before = entries.map(({ history }) => history.length());
        try {
          return await this.#run(batch, entries, before, drafts);
        } catch (error) {
          await this.#undo(entries, before);
          for (const held of sequences) held.failure = error;
          throw error;
        }
      }),
    );
  }

  async #run(batch: Batch, entries: readonly StepEntry[], before: readonly number[], drafts: number): Promise<StepDone> {
    const { onStep } = this.#options;
    const options = { path: this.#path, shape: this.#options, onStep };
    const step = (some: readonly StepEntry[], more: number): Promise<StepDone> =>
      new Step({ ...options, drafts: more }, { ...batch, entries: some.map(({ given }) => given) }, some).run();
    const verifies = entries.some(({ given: { verify = 0 } }) => verify > 0);
    const done = await (verifies ? this.#verified(entries, before, step, drafts) : step(entries, drafts));
    const { drafts: made = [], drafter } = done.result;
    const streams = entries.filter(({ given }) => given.quiet !== true);
    for (const { given } of entries) {
      const held = this.#sequences.get(given.sequence);
      const stream = streams.findIndex((other) => other.given === given);
      if (held) held.made = { ids: made[stream] ?? [], by: drafter };
    }
    // Further drafts have taken positions there.
    if (drafts > 1 && drafter) for (const { given, history } of entries) this.#cut([drafter], given.sequence, history.length());
    return done;
  }

  /** By the last stage's drafts, where they are what is to be verified; else a token after the other, which comes to the same. */
  async #verified(
    entries: readonly StepEntry[],
    before: readonly number[],
    step: (entries: readonly StepEntry[], drafts: number) => Promise<StepDone>,
    drafts: number,
  ): Promise<StepDone> {
    if (canVerify(this.#path.last)) {
      try {
        return await step(entries, drafts);
      } catch (error) {
        // Its successor has no MTP module, or other drafts.
        if (!(error instanceof Error) || !("code" in error) || error.code !== "unsupported") throw error;
        await this.#undo(entries, before);
      }
    }
    return this.#oneByOne(entries, step);
  }

  async #oneByOne(
    entries: readonly StepEntry[],
    step: (entries: readonly StepEntry[], drafts: number) => Promise<StepDone>,
  ): Promise<StepDone> {
    const tokens = entries.map((): number[] => []);
    const logprobs = entries.map((): ChosenLogprobs[] => []);
    const most = Math.max(...entries.map(({ given: { verify = 0 } }) => verify));
    for (let round = 0; round <= most; round++) {
      const places = [...entries.keys()].filter((place) => round <= (entries[place]?.given.verify ?? 0));
      const some = places.flatMap((place): StepEntry[] => {
        const entry = entries[place];
        if (!entry) return [];
        const { verify = 0, masks, followedBy, tokens: _, ...given } = entry.given;
        const named = entry.tokens.length - verify;
        const own = round === 0 ? entry.tokens.slice(0, named) : entry.tokens.slice(named + round - 1, named + round);
        const mask = masks?.[round];
        const more = { ...(mask && { masks: [mask] }), ...(round === 0 && followedBy && { followedBy }) };
        return [{ ...entry, given: { ...given, tokens: own, ...more }, tokens: own }];
      });
      const { result } = await step(some, 0);
      let at = 0;
      for (const [index, place] of places.entries()) {
        const given = some[index]?.given;
        const end = at + (given ? toldRows(given) : 0);
        tokens[place]?.push(...(result.tokens ?? []).slice(at, end));
        logprobs[place]?.push(...(result.logprobs ?? []).slice(at, end));
        at = end;
      }
    }
    const told = logprobs.flat();
    return { output: {}, result: { tokens: tokens.flat(), ...(told.length > 0 && { logprobs: told }) } };
  }

  /** A step that was refused in the middle leaves every stage as it was. */
  async #undo(entries: readonly StepEntry[], before: readonly number[]): Promise<void> {
    for (const [index, { history, given }] of entries.entries()) {
      const length = before[index] ?? 0;
      history.truncate(length);
      for (const hop of this.#path.hops) {
        const slot = hop.slots.get(given.sequence);
        if (slot !== undefined) await hop.call(hop.stage.truncate(slot, length)).catch(() => undefined);
      }
    }
  }

  /** Not waited for: a link keeps its order, and whoever takes the place of a stage that is lost is built as long as the history says. */
  #cut(hops: readonly ActiveHop[], sequence: SequenceSlot, length: number): void {
    for (const hop of hops) {
      const slot = hop.slots.get(sequence);
      if (slot !== undefined) void hop.stage.truncate(slot, length).catch(() => undefined);
    }
  }

  #forget(sequence: SequenceSlot): Promise<void> {
    // Not while a stage is replaced: its successor may be given the sequence just then.
    return this.#path.recovery.walk(async () => {
      this.#histories.delete(sequence);
      for (const hop of this.#path.hops) {
        const slot = hop.slots.get(sequence);
        hop.forget(sequence);
        // Whoever is gone has closed it already.
        if (slot !== undefined) await hop.call(hop.stage.close(slot)).catch(() => undefined);
      }
    });
  }

  /** When everything before it is done for these sequences, unless that failed. */
  #inTurn<T>(sequences: readonly Sequence[], work: () => Promise<T>): Promise<T> {
    const result = Promise.allSettled(sequences.map(({ tail }) => tail)).then(() => {
      this.#path.check();
      const failed = sequences.find(({ failure }) => failure !== undefined);
      if (failed) throw failed.failure;
      return work();
    });
    for (const sequence of sequences) sequence.tail = result;
    result.catch(() => {});
    return result;
  }
}

/** A stage of the whole model computes with the drafts that it made itself; one that is given hidden states, with what they were made of. */
function canVerify({ description, begin }: ActiveHop): boolean {
  return description.hasMtp && begin > 0;
}

function choiceOf({ entries, output }: Batch, indices: readonly number[], done: Promise<StepDone>): Choice {
  let told: StepDone["result"] = {};
  const ids = done.then(({ result }) => {
    told = result;
    return result.tokens ?? [];
  });
  // Whoever reads them hears of it.
  ids.catch(() => {});
  const counts = indices.map((index) => {
    const entry = entries[index];
    return output === "sample" && entry ? toldRows(entry) : 0;
  });
  return { entries: indices, counts, step: Promise.resolve(0), ids, toldLogprobs: () => told.logprobs };
}

function refused(what: string): Promise<never> {
  return Promise.reject(new ModelError("unsupported", `Cannot ${what}: a swarm's stage does not`));
}
