/**
 * Stages one after another, as one Stage. A step passes through them as micro-batches, groups of its sequences, each of which goes on to the next stage as soon as it is through with one;
 * so the stages work at the same time, on different sequences. A sequence's next token starts at the first stage when the last has chosen the one before, and nobody waits for other
 * sequences: steps that the engine submits ahead sort themselves out.
 *
 * Tokens are chosen by the last stage. Where stages can reach one another, each hands its hidden states to the next, and the last its tokens to the first (`handedPass.ts`): then nobody waits
 * for this side. Otherwise both are read back here, and `tokens: "sampled"` reaches the first stage as an id.
 *
 * A step is refused as a whole before any stage has begun it. What fails later, a stage that is gone above all, fails the pipeline: its calls reject from then on, and whoever drives it
 * opens another (the engine's `reopen`), which computes what ran from its tokens.
 */
import {
  type Batch,
  type BatchEntry,
  type ChosenLogprobs,
  type KvBlock,
  type KvRange,
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
import { ClusterError } from "../errors.ts";
import { entryRows } from "../stage/messages.ts";
import { KEPT_STEPS } from "../stage/stepNumbers.ts";
import { type ToldStep, tellsTokens } from "../stage/toldStep.ts";
import { type Choice, Choices, notThere } from "./choices.ts";
import { checkBatch, checkOrder, joinDescriptions, joinOutputs, splitRows, tokensNamed } from "./joined.ts";
import { isHandable, passHanded } from "./handedPass.ts";
import { KvAccount } from "./kvAccount.ts";
import { Lane, type Sent } from "./lane.ts";
import { Ring } from "./ring.ts";
import { StageUse } from "./stageUse.ts";

export interface PipelineOptions {
  /** Groups that sequences are divided into; by default as many as there are stages. With an MTP module always one: a draft takes the rows of one step. */
  readonly groups?: number;
  /** Whether stages that can reach one another hand on by themselves; true by default. */
  readonly handing?: boolean;
}

interface Sequence {
  /** On each stage. */
  readonly slots: readonly Promise<SequenceSlot>[];
  /** On each stage: when the last call for this sequence had been made there. */
  readonly tails: Promise<void>[];
  readonly group: number;
  /** Tokens, on all stages. */
  length: number;
  last: Promise<number | undefined>;
  /** By which number the first stage gets the last token, if it does. */
  handed: Promise<number | undefined>;
  drafts: Promise<readonly number[]>;
}

export class PipelineStage implements Stage {
  readonly #stages: readonly StageUse[];
  readonly #descriptions: readonly StageDescription[];
  readonly #lanes: readonly Lane[];
  readonly #groups: number;
  readonly #ring: Ring | undefined;
  readonly #account: KvAccount;
  readonly #sequences = new Map<SequenceSlot, Sequence>();
  /** Of blocks that somebody retained: their numbers on each stage. */
  readonly #blocks = new Map<KvBlock, readonly Promise<KvBlock>[]>();
  readonly #choices = new Choices();
  readonly #draftSteps = new Map<number, Promise<number>>();
  #step = 0;
  #failure: unknown;

  private constructor(
    stages: readonly Stage[],
    descriptions: readonly StageDescription[],
    ring: Ring | undefined,
    { groups = stages.length }: PipelineOptions,
  ) {
    this.#ring = ring;
    this.#stages = stages.map((stage) => new StageUse(stage));
    this.#descriptions = descriptions;
    this.#lanes = stages.map(
      () =>
        new Lane(
          () => this.#check(),
          (error) => (this.#failure ??= error),
        ),
    );
    const { hasMtp, ...joined } = joinDescriptions(descriptions);
    this.#groups = hasMtp ? 1 : Math.max(1, groups);
    this.#account = new KvAccount({ ...joined, blocks: joined.freeKvBlocks, blockSize: joined.kvBlockSize });
  }

  /**
   * The stages become the pipeline's, whose `destroy` destroys them; they must have no open sequences.
   * @throws ClusterError named bad-plan for stages that do not follow one another from the first layer to the last, PeerLostError
   */
  static async open(stages: readonly Stage[], options: PipelineOptions = {}): Promise<PipelineStage> {
    const descriptions = await Promise.all(stages.map((stage) => stage.describe()));
    checkOrder(descriptions);
    const ring = options.handing === false ? undefined : await Ring.connect(stages);
    return new PipelineStage(stages, descriptions, ring, options);
  }

  async describe(): Promise<StageDescription> {
    for (const lane of this.#lanes) await lane.idle();
    this.#check();
    return joinDescriptions(await Promise.all(this.#stages.map(({ stage }) => stage.describe())));
  }

  async open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    this.#check();
    const numbers = prefix.map((block) => this.#blocks.get(block));
    const slot = this.#account.open(prefix);
    const opened = this.#stages.map((use, k) => {
      const onStage = numbers.map((blocks) => blocks?.[k] ?? Promise.reject(new RangeError("A KV block that is held has no number")));
      return this.#send(k, onStage, async () => {
        const blocks = await Promise.all(onStage);
        return () => use.open(blocks);
      });
    });
    this.#add(slot, opened, prefix.length * this.#blockSize);
    return slot;
  }

  async retain(slot: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    this.#check();
    const blocks = this.#account.retain(slot, first, count);
    const numbers = this.#eachStage(slot, (use, onStage) => use.retain(onStage, first, count));
    for (const [index, block] of blocks.entries())
      this.#blocks.set(
        block,
        numbers.map(async (onStage) => {
          const number = (await onStage)[index];
          if (number === undefined) throw new ClusterError("bad-frame", `A stage retained ${index} KV blocks, expected ${count}`);
          return number;
        }),
      );
    for (const onStage of blocks.flatMap((block) => this.#blocks.get(block) ?? [])) onStage.catch(() => undefined);
    return blocks;
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    this.#check();
    const numbers = blocks.map((block) => this.#blocks.get(block));
    this.#account.release(blocks);
    for (const [k, use] of this.#stages.entries()) {
      const onStage = numbers.map((each) => each?.[k] ?? Promise.reject(new RangeError("A KV block that is held has no number")));
      this.#send(
        k,
        onStage,
        async () => {
          const held = await Promise.all(onStage);
          return () => use.release(held);
        },
        true,
      );
    }
  }

  async truncate(slot: SequenceSlot, length: number): Promise<void> {
    this.#check();
    const sequence = this.#sequence(slot);
    this.#account.truncate(slot, length);
    const { length: before } = sequence;
    sequence.length = Math.min(before, length);
    // Only the last stage may have more: the positions of drafts.
    const last = this.#stages.length - 1;
    void this.#eachStage(
      slot,
      async ({ stage }, onStage, k) => {
        if (length < before || k === last) await stage.truncate(onStage, length);
      },
      true,
    );
  }

  async close(slot: SequenceSlot): Promise<void> {
    this.#check();
    this.#account.close(slot);
    void this.#eachStage(slot, (use, onStage) => use.close(onStage), true);
    this.#sequences.delete(slot);
  }

  async setSampling(slot: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    this.#check();
    const sequence = this.#sequence(slot);
    const k = this.#stages.length - 1;
    let refusal: unknown;
    const { sent, result } = this.#send(k, [at(sequence.tails, k)], async () => {
      const onStage = await at(sequence.slots, k);
      // Parameters that mean nothing are the caller's matter, not the pipeline's end.
      return () =>
        this.#last.setSampling(onStage, parameters, history).catch((error: unknown) => {
          if (!(error instanceof Error) || !["RangeError", "ModelError"].includes(error.name)) throw error;
          refusal = error;
        });
    });
    sequence.tails[k] = sent;
    await result;
    if (refusal !== undefined) throw refusal;
  }

  async exportKv(slot: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
    this.#check();
    // The last stage may have more rows: positions of drafts.
    const { length } = this.#sequence(slot);
    const { first: from, count } = range ?? { first: 0, count: length };
    if (![from, count].every((value) => Number.isSafeInteger(value) && value >= 0) || from + count > length)
      throw new ModelError("bad-batch", `Cannot export KV rows ${from} to ${from + count}: the sequence has ${length}`);
    const parts = await Promise.all(this.#eachStage(slot, ({ stage }, onStage) => stage.exportKv(onStage, { first: from, count })));
    const [first] = parts;
    if (!first) throw new ClusterError("bad-plan", "Cannot move KV rows: the pipeline has no stages");
    return { ...first, layers: parts.flatMap(({ layers }) => layers) };
  }

  async importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    this.#check();
    const counts = this.#descriptions.map(({ layers, hasMtp }) => layers.end - layers.begin + (hasMtp ? 1 : 0));
    const total = counts.reduce((sum, count) => sum + count, 0);
    if (snapshot.layers.length !== total)
      throw new ModelError(
        "bad-batch",
        `Cannot import a KV snapshot: the number of layers is ${snapshot.layers.length}, expected ${total}`,
      );
    const begins = counts.map((_, k) => counts.slice(0, k).reduce((sum, count) => sum + count, 0));
    const part = (k: number): KvSnapshot => ({ ...snapshot, layers: snapshot.layers.slice(begins[k], begins[k + 1]) });
    if (onto !== undefined) {
      const sequence = this.#sequence(onto);
      this.#account.extend([{ sequence: onto, tokens: snapshot.tokens }]);
      sequence.length += snapshot.tokens;
      await Promise.all(this.#eachStage(onto, (use, onStage, k) => use.importKv(part(k), onStage)));
      return onto;
    }
    const slot = this.#account.open([]);
    try {
      this.#account.extend([{ sequence: slot, tokens: snapshot.tokens }]);
    } catch (error) {
      this.#account.close(slot);
      throw error;
    }
    const opened = this.#stages.map((use, k) => this.#send(k, [], async () => () => use.importKv(part(k))));
    this.#add(slot, opened, snapshot.tokens);
    await Promise.all(opened.map(({ result }) => result));
    return slot;
  }

  async forward(batch: Batch): Promise<StepOutput> {
    this.#check();
    checkBatch(batch, joinDescriptions(this.#descriptions), (sequence) => this.#sequence(sequence));
    this.#account.extend(
      batch.entries.map((entry) => {
        // Positions of drafts are there already.
        const { length } = this.#sequence(entry.sequence);
        const ahead = this.#account.length(entry.sequence) - length;
        return { sequence: entry.sequence, tokens: Math.max(0, entryRows(entry) - ahead) };
      }),
    );
    for (const entry of batch.entries) this.#sequence(entry.sequence).length += entryRows(entry);
    const step = this.#step++;
    const { output } = batch;
    if (output !== "sample" && output !== "none") {
      // Whoever wants rows back waits for the whole step, and there is one micro-batch.
      const { result } = this.#pass(
        batch,
        batch.entries.map((_, index) => index),
      );
      return { ...(await result), step };
    }
    const groups = new Map<number, number[]>();
    for (const [index, { sequence }] of batch.entries.entries()) {
      const { group } = this.#sequence(sequence);
      groups.set(group, [...(groups.get(group) ?? []), index]);
    }
    const choices = [...groups.values()].map((entries) => this.#pass(batch, entries).choice);
    if (output === "sample") this.#choices.add(step, choices);
    return { step };
  }

  async draft(batch: Batch): Promise<StepOutput> {
    this.#check();
    const k = this.#stages.length - 1;
    const { drafts: count = 1, output } = batch;
    const sequences = batch.entries.map(({ sequence }) => this.#sequence(sequence));
    const sends = batch.entries.map(({ sequence }) => at(this.#sequence(sequence).tails, k));
    if (count > 1)
      this.#account.extend(
        batch.entries.map(({ sequence }) => {
          const { length } = this.#sequence(sequence);
          return { sequence, tokens: Math.max(0, length + count - 1 - this.#account.length(sequence)) };
        }),
      );
    const { sent, result } = this.#send(k, sends, async () => {
      const entries = await Promise.all(
        batch.entries.map(async (entry, index) => ({ ...entry, sequence: await at(sequences[index]?.slots ?? [], k) })),
      );
      return () => this.#last.draft({ ...batch, entries });
    });
    for (const sequence of sequences) sequence.tails[k] = sent;
    const step = this.#step;
    this.#step += count;
    if (output !== "sample") return { ...(await result), step };
    const ids = result.then(({ step: onStage }) => this.#last.drafted(onStage, count));
    ids.catch((error: unknown) => this.#fail(error));
    let place = 0;
    for (const [index, { quiet }] of batch.entries.entries()) {
      const sequence = sequences[index];
      if (quiet === true || !sequence) continue;
      const mine = place++;
      sequence.drafts = ids.then((steps) => steps.map((each) => each[mine] ?? 0));
      sequence.drafts.catch(() => undefined);
    }
    for (let i = 0; i < count; i++) {
      const onStage = result.then((output) => output.step + i);
      onStage.catch(() => undefined);
      this.#draftSteps.set(step + i, onStage);
      this.#draftSteps.delete(step + i - KEPT_STEPS);
    }
    return { step };
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#read(first, count, ({ ids }) => ids);
  }

  async logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#read(first, count, async ({ step, toldLogprobs }) => {
      const onStage = await step;
      return toldLogprobs() ?? (await this.#last.logprobs(onStage, 1))[0] ?? [];
    });
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    this.#check();
    return Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const step = this.#draftSteps.get(first + index);
        if (!step) throw notThere(first + index);
        return (await this.#last.drafted(await step, 1))[0] ?? [];
      }),
    );
  }

  /**
   * After a failure: gives back what this pipeline holds on the stages that live, and gives them, for another pipeline. Those that are gone are undefined.
   */
  async abandon(): Promise<readonly (Stage | undefined)[]> {
    this.#failure ??= new ClusterError("refused", "Cannot use the pipeline: it was given up");
    // Steps that wait for a stage which is gone, or was never asked, would wait for ever.
    await this.#ring?.end();
    return Promise.all(
      this.#stages.map(async (use, k) => {
        await this.#lanes[k]?.idle();
        return use.giveBack();
      }),
    );
  }

  async destroy(): Promise<void> {
    this.#failure ??= new ClusterError("refused", "Cannot use the pipeline: it was closed");
    await Promise.allSettled(this.#stages.map(({ stage }) => stage.destroy()));
  }

  get #last(): Stage {
    const last = this.#stages.at(-1)?.stage;
    if (!last) throw new ClusterError("bad-plan", "The pipeline has no stages");
    return last;
  }

  get #blockSize(): number {
    return this.#descriptions[0]?.kvBlockSize ?? 1;
  }

  /** Takes a micro-batch, some entries of a batch, through all stages. */
  #pass(batch: Batch, indices: readonly number[]): { readonly choice: Choice; readonly result: Promise<StepOutput> } {
    const entries = indices.flatMap((index) => batch.entries[index] ?? []);
    const sequences = entries.map(({ sequence }) => this.#sequence(sequence));
    if (this.#ring && isHandable(batch)) return this.#passHanded(this.#ring, batch, indices, entries, sequences);
    const tokens = Promise.all(
      entries.map(async ({ tokens: named, verify = 0 }, place) => {
        const ids = named === "sampled" ? [await known(sequences[place]?.last)] : named;
        return verify > 0 ? [...ids, ...((await sequences[place]?.drafts) ?? []).slice(0, verify)] : ids;
      }),
    );
    tokens.catch((error: unknown) => this.#fail(error));
    const lastStage = this.#stages.length - 1;
    let before: Promise<StepOutput | undefined> = Promise.resolve(undefined);
    const captured: Promise<StepOutput>[] = [];
    let told: ToldStep | undefined;
    for (const [k, { stage }] of this.#stages.entries()) {
      const input = before;
      const { sent, result } = this.#send(k, [...sequences.map(({ tails }) => at(tails, k)), input, tokens], async () => {
        const ids = await tokens;
        const slots = await Promise.all(sequences.map(({ slots }) => at(slots, k)));
        const rows = splitRows((await input)?.hidden, entries.map(entryRows));
        const own = entries.map((entry, place) => ({ ...entry, sequence: slots[place] as SequenceSlot, ...rows[place] }));
        if (k === lastStage) {
          const step: Batch = {
            ...batch,
            // A stage that has an embedding needs the ids; the last of several only their number, and how many of them to verify.
            entries: own.map((entry, place) =>
              lastStage === 0 ? entry : { ...entry, tokens: (ids[place] ?? []).slice(0, tokensNamed(entry)) },
            ),
          };
          return async () => {
            if (batch.output !== "sample" || !tellsTokens(stage)) return stage.forward(step);
            // By one message each way: asking for the tokens afterwards would be a second.
            told = await stage.forwardTold(step);
            return told.output;
          };
        }
        const step: Batch = {
          entries: own.map(({ sequence, hidden }, place) => ({ sequence, tokens: ids[place] ?? [], ...(hidden && { hidden }) })),
          output: "hidden",
          ...(batch.capture && { capture: batch.capture }),
        };
        return () => stage.forward(step);
      });
      for (const { tails } of sequences) tails[k] = sent;
      captured.push(result);
      before = result;
    }
    const result = Promise.all(captured).then(joinOutputs);
    result.catch(() => undefined);
    const step = result.then((output) => output.step);
    step.catch(() => undefined);
    const ids =
      batch.output === "sample"
        ? step.then(async (onStage) => told?.tokens ?? (await this.#last.sampled(onStage, 1))[0] ?? [])
        : Promise.resolve([]);
    ids.catch((error: unknown) => this.#fail(error));
    const counts = entries.map((entry) => (batch.output === "sample" ? toldRows(entry) : 0));
    let place = 0;
    for (const [index, sequence] of sequences.entries()) {
      place += counts[index] ?? 0;
      const end = place;
      if ((counts[index] ?? 0) === 0 || entries[index]?.quiet === true) continue;
      sequence.last = ids.then((all) => all[end - 1]);
      sequence.last.catch(() => undefined);
      sequence.handed = Promise.resolve(undefined);
    }
    return { choice: { entries: indices, counts, step, ids, toldLogprobs: () => told?.logprobs }, result };
  }

  /** As `#pass`, where stages hand on by themselves. */
  #passHanded(
    ring: Ring,
    batch: Batch,
    indices: readonly number[],
    entries: readonly BatchEntry[],
    sequences: readonly Sequence[],
  ): { readonly choice: Choice; readonly result: Promise<StepOutput> } {
    const counts = entries.map((entry) => (batch.output === "sample" ? toldRows(entry) : 0));
    let before = 0;
    const ends = counts.map((count, index) => {
      before += count;
      return count === 0 || entries[index]?.quiet === true ? undefined : before - 1;
    });
    const handed = sequences.map(({ slots, last, drafts, handed }, index) => {
      const entry = entries[index] ?? { sequence: 0 as SequenceSlot, tokens: [] };
      const ids = async (): Promise<readonly number[]> => {
        const { tokens, verify = 0 } = entry;
        const named = tokens === "sampled" ? [await known(last)] : tokens;
        return verify > 0 ? [...named, ...(await drafts).slice(0, verify)] : named;
      };
      return { entry, slots, handed, ids, place: ends[index] };
    });
    const { sent, told } = passHanded(
      ring,
      this.#lanes,
      batch,
      handed,
      sequences.flatMap(({ tails }) => tails),
    );
    sent.catch((error: unknown) => this.#fail(error));
    told.catch((error: unknown) => this.#fail(error));
    let logprobs: ToldStep["logprobs"];
    const result = told.then((step) => {
      logprobs = step.logprobs;
      return step.output;
    });
    const [step, ids] = [result.then((output) => output.step), told.then(({ tokens }) => tokens)];
    for (const each of [result, step, ids]) each.catch(() => undefined);
    const through = sent.then(
      () => undefined,
      () => undefined,
    );
    for (const [index, sequence] of sequences.entries()) {
      for (const k of sequence.tails.keys()) sequence.tails[k] = through;
      const end = ends[index];
      if (end === undefined) continue;
      sequence.last = ids.then((all) => all[end]);
      sequence.last.catch(() => undefined);
      sequence.handed = sent.catch(() => undefined);
    }
    return { choice: { entries: indices, counts, step, ids, toldLogprobs: () => logprobs }, result };
  }

  async #read<T>(first: number, count: number, what: (choice: Choice) => Promise<readonly T[]>): Promise<readonly (readonly T[])[]> {
    this.#check();
    try {
      return await this.#choices.read(first, count, what);
    } catch (error) {
      // Whatever came of it, the first failure says why.
      throw this.#failure ?? error;
    }
  }

  #add(slot: SequenceSlot, opened: readonly Sent<SequenceSlot>[], length: number): void {
    const slots = opened.map(({ result }) => result);
    for (const result of slots) result.catch(() => undefined);
    const used = Array.from({ length: this.#groups }, () => 0);
    for (const { group } of this.#sequences.values()) used[group] = (used[group] ?? 0) + 1;
    this.#sequences.set(slot, {
      slots,
      tails: opened.map(({ sent }) => sent),
      group: used.indexOf(Math.min(...used)),
      length,
      last: Promise.resolve(undefined),
      handed: Promise.resolve(undefined),
      drafts: Promise.resolve([]),
    });
  }

  /** The same call to every stage, with the sequence's slot there. */
  #eachStage<T>(
    slot: SequenceSlot,
    work: (use: StageUse, onStage: SequenceSlot, k: number) => Promise<T>,
    frees = false,
  ): readonly Promise<T>[] {
    const { slots, tails } = this.#sequence(slot);
    return this.#stages.map((use, k) => {
      const prepare = async (): Promise<() => Promise<T>> => {
        const onStage = await at(slots, k);
        return () => work(use, onStage, k);
      };
      const { sent, result } = this.#send(k, [at(tails, k)], prepare, frees);
      tails[k] = sent;
      return result;
    });
  }

  #send<T>(k: number, after: readonly Promise<unknown>[], work: () => Promise<() => Promise<T>>, frees = false): Sent<T> {
    const lane = this.#lanes[k];
    if (!lane) throw new RangeError(`The pipeline has no stage ${k}`);
    return lane.send(after, work, frees);
  }

  #sequence(slot: SequenceSlot): Sequence {
    const sequence = this.#sequences.get(slot);
    if (!sequence) throw new ModelError("unknown-sequence", `Cannot use sequence ${slot}: it is not open`);
    return sequence;
  }

  #fail(error: unknown): void {
    this.#failure ??= error;
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

async function known(last: Promise<number | undefined> | undefined): Promise<number> {
  const id = await last;
  if (id === undefined) throw new ModelError("bad-batch", "Cannot run a batch: nothing was sampled for a sequence yet");
  return id;
}

function at<T>(values: readonly T[], k: number): T {
  const value = values[k];
  if (value === undefined) throw new RangeError(`There is no stage ${k}`);
  return value;
}
