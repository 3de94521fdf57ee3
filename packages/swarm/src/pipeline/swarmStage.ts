/**
 * The model over a path of peers, as one Stage. Each step goes through the stages in turn. What every stage was given is kept; when one is lost, stalls or answers nonsense, only
 * its layers are opened elsewhere, get the same inputs again, and the step goes on: tokens that are out do not change. (As Petals' inference session does.)
 *
 * Steps run one after the other. Prefixes are not shared and nothing is drafted: `retain` and `draft` are refused.
 */
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
} from "@shoal/model";
import type { Hop } from "../plan/path.ts";
import { ActivePath, type ActivePathOptions } from "./activePath.ts";
import { SequenceHistory } from "./history.ts";
import { type ObservedStep, Step, type StepEntry, type StepResult } from "./step.ts";

/** Steps whose tokens can be read. */
const KEPT_STEPS = 256;

export interface SwarmStageOptions extends ActivePathOptions {
  /** For whoever looks over the peers' shoulders (audit.ts). */
  readonly onStep?: (step: ObservedStep) => void;
}

export class SwarmStage implements Stage {
  readonly #options: SwarmStageOptions;
  readonly #path: ActivePath;
  readonly #sequences: Map<SequenceSlot, SequenceHistory>;
  readonly #results = new Map<number, StepResult>();
  #nextSlot = 0;
  #step = 0;
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(options: SwarmStageOptions, path: ActivePath, sequences: Map<SequenceSlot, SequenceHistory>) {
    this.#options = options;
    this.#path = path;
    this.#sequences = sequences;
  }

  /** @throws SwarmError incomplete where no path comes about within the patience */
  static async open(options: SwarmStageOptions): Promise<SwarmStage> {
    const sequences = new Map<SequenceSlot, SequenceHistory>();
    return new SwarmStage(options, await ActivePath.open(options, sequences), sequences);
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
    for (const history of this.#sequences.values()) sum += history.bytes();
    return sum;
  }

  async describe(): Promise<StageDescription> {
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

  open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    if (prefix.length > 0) return refused("begin with KV blocks of others");
    return this.#inTurn(async () => {
      const sequence = this.#nextSlot++ as SequenceSlot;
      const history = new SequenceHistory(this.#options.hiddenSize);
      await this.#path.everywhere(async (hop) => void hop.slots.set(sequence, await hop.call(hop.stage.open())));
      this.#sequences.set(sequence, history);
      return sequence;
    });
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

  truncate(sequence: SequenceSlot, length: number): Promise<void> {
    return this.#inTurn(async () => {
      const history = this.#history(sequence);
      history.truncate(length);
      // A stage that is rebuilt is rebuilt as long as the history says: cutting it once more changes nothing.
      await this.#path.everywhere((hop) => hop.call(hop.stage.truncate(hop.slot(sequence), length)));
    });
  }

  close(sequence: SequenceSlot): Promise<void> {
    return this.#inTurn(async () => {
      this.#history(sequence);
      this.#sequences.delete(sequence);
      for (const hop of this.#path.hops) {
        const slot = hop.slots.get(sequence);
        hop.slots.delete(sequence);
        // Whoever is gone has closed it already.
        if (slot !== undefined) await hop.call(hop.stage.close(slot)).catch(() => undefined);
      }
    });
  }

  setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    return this.#inTurn(async () => {
      const own = this.#history(sequence);
      own.sampling = { parameters, ...(history && { history }) };
      own.chosen = [];
      await this.#path.retrying(this.#path.last.begin, (hop) => hop.call(hop.stage.setSampling(hop.slot(sequence), parameters, history)));
    });
  }

  forward(batch: Batch): Promise<StepOutput> {
    return this.#inTurn(() => this.#forward(batch));
  }

  draft(): Promise<StepOutput> {
    return refused("draft");
  }

  drafted(): Promise<readonly (readonly number[])[]> {
    return refused("draft");
  }

  sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#inTurn(async () => this.#kept(first, count).map(({ tokens = [] }) => tokens));
  }

  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#inTurn(async () => this.#kept(first, count).map(({ logprobs = [] }) => logprobs));
  }

  async destroy(): Promise<void> {
    this.#path.close();
    await this.#turn;
  }

  #history(sequence: SequenceSlot): SequenceHistory {
    const history = this.#sequences.get(sequence);
    if (!history) throw new ModelError("unknown-sequence", `Cannot use sequence ${sequence}: it is not open`);
    return history;
  }

  #kept(first: number, count: number): readonly StepResult[] {
    return Array.from({ length: count }, (_, index) => {
      const result = this.#results.get(first + index);
      if (!result)
        throw new ModelError("bad-batch", `Cannot read step ${first + index}: it is not there, or more than ${KEPT_STEPS} steps ago`);
      return result;
    });
  }

  async #forward(batch: Batch): Promise<StepOutput> {
    if (batch.chain === true) throw new ModelError("unsupported", "Cannot chain steps: a swarm's stage has no MTP module");
    const entries = batch.entries.map((given): StepEntry => {
      const history = this.#history(given.sequence);
      if ((given.verify ?? 0) > 0) throw new ModelError("unsupported", "Cannot verify a draft: a swarm's stage has no MTP module");
      if (given.tokens !== "sampled") return { given, history, tokens: given.tokens };
      if (history.last === undefined)
        throw new ModelError("bad-batch", `Cannot go on with a sampled token: sequence ${given.sequence} has none`);
      return { given, history, tokens: [history.last] };
    });
    const before = entries.map(({ history }) => history.length());
    const { onStep } = this.#options;
    try {
      const output = await new Step({ path: this.#path, shape: this.#options, onStep }, batch, entries).run();
      const step = this.#step++;
      this.#results.set(step, output.result);
      this.#results.delete(step - KEPT_STEPS);
      return { ...output.output, step };
    } catch (error) {
      await this.#undo(entries, before);
      throw error;
    }
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

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      this.#path.check();
      return work();
    });
    this.#turn = result.catch(() => undefined);
    return result;
  }
}

function refused(what: string): Promise<never> {
  return Promise.reject(new ModelError("unsupported", `Cannot ${what}: a swarm's stage does not`));
}
