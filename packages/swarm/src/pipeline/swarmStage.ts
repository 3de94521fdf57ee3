/**
 * The model over a path of peers, as one Stage. What every stage was given is kept; when one is lost, stalls or answers nonsense, only its layers are opened elsewhere, get the same inputs
 * again, and whatever was under way goes on: tokens that are out do not change. (As Petals' inference session does.)
 *
 * The sequences of a step form groups, as many as the path has stages, and each group goes its own way: while one is at the second stage another is at the first, and nobody waits for
 * others. What is done for one sequence is done in the order in which it was asked for, and a step that only samples returns at once, as with `PipelineStage`. So what fails later, for want
 * of peers above all, fails the calls that follow for its sequences.
 *
 * Prefixes are not shared and nothing is drafted: `retain` and `draft` are refused.
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
import { ActivePath, type ActivePathOptions } from "./activePath.ts";
import { SequenceHistory } from "./history.ts";
import { type ObservedStep, Step, type StepDone, type StepEntry } from "./step.ts";

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
}

export class SwarmStage implements Stage {
  readonly #options: SwarmStageOptions;
  readonly #path: ActivePath;
  readonly #sequences = new Map<SequenceSlot, Sequence>();
  /** Of those that are open, or being opened: what a stage that is replaced must have. */
  readonly #histories: Map<SequenceSlot, SequenceHistory>;
  readonly #choices = new Choices();
  #nextSlot = 0;
  #step = 0;

  private constructor(options: SwarmStageOptions, path: ActivePath, histories: Map<SequenceSlot, SequenceHistory>) {
    this.#options = options;
    this.#path = path;
    this.#histories = histories;
  }

  /** @throws SwarmError incomplete where no path comes about within the patience */
  static async open(options: SwarmStageOptions): Promise<SwarmStage> {
    const histories = new Map<SequenceSlot, SequenceHistory>();
    return new SwarmStage(options, await ActivePath.open(options, histories), histories);
  }

  get path(): readonly Hop[] {
    return this.#path.hops.map(({ hop }) => hop);
  }

  /** Stages that were opened elsewhere since the beginning. */
  get replaced(): number {
    return this.#path.replaced;
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
    return {
      layers: { begin: 0, end: this.#options.nLayers },
      hasEmbedding: true,
      hasHead: true,
      hasMtp: false,
      vocabSize: this.#options.vocabSize,
      contextTokens: least(({ contextTokens }) => contextTokens),
      maxSequences: least(({ maxSequences }) => maxSequences),
      maxTokens: least(({ maxTokens }) => maxTokens),
      maxOutputs: last.maxOutputs,
      maxDrafts: 0,
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
    this.#sequences.set(sequence, { history, group, chooses: false, tail: Promise.resolve(), failure: undefined });
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
    await this.#inTurn([held], () => {
      held.history.truncate(length);
      // A stage that is rebuilt is rebuilt as long as the history says: cutting it once more changes nothing.
      return this.#path.everywhere((hop) => hop.call(hop.stage.truncate(hop.slot(sequence), length)));
    });
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
      if (verify > 0) throw new ModelError("unsupported", "Cannot verify a draft: a swarm's stage has no MTP module");
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
    const running = [...groups.values()].map((indices) => ({ indices, done: this.#pass(batch, indices) }));
    this.#choices.add(
      step,
      running.map(({ indices, done }) => choiceOf(batch, indices, done)),
    );
    const [first] = running;
    return isOne && first ? { ...(await first.done).output, step } : { step };
  }

  draft(): Promise<StepOutput> {
    return refused("draft");
  }

  drafted(): Promise<readonly (readonly number[])[]> {
    return refused("draft");
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
  #pass(batch: Batch, indices: readonly number[]): Promise<StepDone> {
    const given = indices.flatMap((index) => batch.entries[index] ?? []);
    const sequences = given.map(({ sequence }) => this.#sequence(sequence));
    if (batch.output === "sample") for (const [index, held] of sequences.entries()) held.chooses ||= given[index]?.quiet !== true;
    const { onStep } = this.#options;
    return this.#inTurn(sequences, () =>
      this.#path.recovery.walk(async () => {
        const entries = given.map((entry, index): StepEntry => {
          const { history } = sequences[index] ?? this.#sequence(entry.sequence);
          // There is one: nothing that was to choose it has failed.
          return { given: entry, history, tokens: entry.tokens === "sampled" ? [history.last ?? 0] : entry.tokens };
        });
        const before = entries.map(({ history }) => history.length());
        try {
          return await new Step({ path: this.#path, shape: this.#options, onStep }, { ...batch, entries: given }, entries).run();
        } catch (error) {
          await this.#undo(entries, before);
          for (const held of sequences) held.failure = error;
          throw error;
        }
      }),
    );
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

  async #forget(sequence: SequenceSlot): Promise<void> {
    this.#histories.delete(sequence);
    for (const hop of this.#path.hops) {
      const slot = hop.slots.get(sequence);
      hop.slots.delete(sequence);
      // Whoever is gone has closed it already.
      if (slot !== undefined) await hop.call(hop.stage.close(slot)).catch(() => undefined);
    }
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
