/** A small model in plain arithmetic, cut at any layer: what a row becomes depends on all rows before it, as with attention. The same numbers however it is cut and batched. */
import type { ToldStep } from "@shoal/cluster";
import {
  type Batch,
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
  kvRowBytes,
} from "@shoal/model";
import type { LayerRange } from "../src/plan/range.ts";

/** A position's row of a layer's cache is one number, and seven zeros. */
export const FAKE = { nLayers: 6, hiddenSize: 8, vocabSize: 97, kvLoraRank: 6, qkRopeHeadDim: 2 } as const;

const KV_ROW = kvRowBytes(FAKE, "f32") / 4;

export class FakeStage implements Stage {
  readonly layers: LayerRange;
  /** What is wrong with it. */
  fault: "none" | "lies" | "nan" | "stalls" | "short" | "few logprobs" | "unlikely logprobs" | "foreign logprobs" = "none";
  /** What is wrong with the KV rows that it gives. */
  kvFault: "none" | "lies" | "nan" | "short" | "stalls" | "refuses" = "none";
  calls = 0;
  /** Rows that it computed, and that it was given of others'; how often it was asked for its own. */
  rows = 0;
  imported = 0;
  exports = 0;
  /** What its MTP module guesses for a position; it has none without. */
  oracle: ((position: number) => number) | undefined;
  /** Drafts that were verified. */
  verified = 0;
  /** Of the step before: where each sequence's rows begin, and how many there are. */
  #previous = new Map<number, { readonly start: number; readonly rows: number }>();
  readonly #drafted = new Map<number, readonly number[]>();
  /** What it was told to have been chosen, each time. */
  readonly samplings: (TokenHistory | undefined)[] = [];
  /** Sequences that it takes at once. */
  room = 16;
  readonly #sequences = new Map<number, number[][]>();
  readonly #results: (readonly number[])[] = [];
  #next = 0;

  constructor(layers: LayerRange) {
    this.layers = layers;
  }

  get openSequences(): number {
    return this.#sequences.size;
  }

  async describe(): Promise<StageDescription> {
    return {
      layers: this.layers,
      hasEmbedding: this.layers.begin === 0,
      hasHead: this.layers.end === FAKE.nLayers,
      hasMtp: this.oracle !== undefined,
      vocabSize: FAKE.vocabSize,
      contextTokens: 256,
      maxSequences: this.room,
      maxTokens: 16,
      maxOutputs: 16,
      maxDrafts: this.oracle ? 3 : 0,
      chainsDrafts: false,
      memory: {},
      freeKvBlocks: 100,
      kvBlockSize: 16,
    };
  }

  async open(): Promise<SequenceSlot> {
    if (this.#sequences.size >= this.room) throw new ModelError("too-many-sequences", `there are ${this.#sequences.size}`);
    const slot = this.#next++;
    this.#sequences.set(
      slot,
      Array.from({ length: this.layers.end - this.layers.begin }, () => []),
    );
    return slot as SequenceSlot;
  }

  async truncate(sequence: SequenceSlot, length: number): Promise<void> {
    for (const sums of this.#cache(sequence)) sums.length = Math.min(sums.length, length);
  }

  async close(sequence: SequenceSlot): Promise<void> {
    this.#sequences.delete(sequence);
  }

  async setSampling(_sequence: SequenceSlot, _parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    this.samplings.push(history);
  }

  async forward({ entries, output }: Batch): Promise<StepOutput> {
    this.calls++;
    if (this.fault === "stalls") await new Promise(() => {});
    const all: number[] = [];
    const chosen: number[] = [];
    this.#previous = new Map();
    for (const { sequence, tokens, hidden, quiet, verify = 0, followedBy = [] } of entries) {
      if (tokens === "sampled") throw new ModelError("bad-batch", "tokens must be named here");
      if (tokens.some((id) => id >= FAKE.vocabSize)) throw new ModelError("bad-batch", "no such token");
      if (verify > 0 && (!this.oracle || !hidden)) throw new ModelError("unsupported", "no MTP module");
      const rows = tokens.length + verify;
      this.#previous.set(sequence, { start: this.#cache(sequence)[0]?.length ?? 0, rows });
      this.verified += verify;
      this.rows += rows;
      chosen.push(...followedBy);
      let row: number[] = [];
      for (let index = 0; index < rows; index++) {
        const id = tokens[index] ?? 0;
        const given = hidden?.subarray(index * FAKE.hiddenSize, (index + 1) * FAKE.hiddenSize);
        row = this.#row(sequence, this.layers.begin === 0 ? embed(id) : [...(given ?? [])]);
        all.push(...row);
        if (quiet !== true && index >= tokens.length - 1) chosen.push(choose(row));
      }
    }
    this.#results.push(chosen);
    const values = Float32Array.from(this.fault === "short" ? all.slice(1) : all);
    if (this.fault === "lies") values[values.length - 1] = (values.at(-1) ?? 0) + 0.5;
    if (this.fault === "nan") values[values.length - 1] = Number.NaN;
    const logits = new Float32Array(chosen.length * FAKE.vocabSize);
    for (const [row, id] of chosen.entries()) logits[row * FAKE.vocabSize + id] = 10;
    return {
      step: this.#results.length - 1,
      ...(output === "hidden" && { hidden: values }),
      ...(output === "lastLogits" && { logits }),
    };
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    const wrong = this.fault === "nan" || this.fault === "short";
    return this.#results.slice(first, first + count).map((tokens) => (wrong ? tokens.map(() => 1e9) : tokens));
  }

  async logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    const { fault } = this;
    const tell = (id: number): ChosenLogprobs => ({
      ...logprobsOf(fault === "foreign logprobs" ? FAKE.vocabSize : id),
      ...(fault === "unlikely logprobs" && { logprob: 0.5 }),
    });
    return this.#results.slice(first, first + count).map((tokens) => (fault === "few logprobs" ? tokens.slice(1) : tokens).map(tell));
  }

  async retain(): Promise<readonly KvBlock[]> {
    return [];
  }

  async release(): Promise<void> {}

  async exportKv(sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
    const { kvFault } = this;
    this.exports++;
    if (kvFault === "stalls") await new Promise(() => {});
    if (kvFault === "refuses") throw new ModelError("unsupported", "not here");
    const cache = this.#cache(sequence);
    const { first, count: tokens } = range ?? { first: 0, count: cache[0]?.length ?? 0 };
    if (first + tokens > (cache[0]?.length ?? 0)) throw new ModelError("bad-batch", "there are not so many rows");
    const layers = cache.map((sums) => {
      const rows = new Float32Array(tokens * KV_ROW);
      for (let row = 0; row < tokens; row++) rows[row * KV_ROW] = (sums[first + row] ?? 0) + (kvFault === "lies" ? 0.5 : 0);
      if (kvFault === "nan") rows[rows.length - 1] = Number.NaN;
      return new Uint8Array(kvFault === "short" ? rows.buffer.slice(4) : rows.buffer);
    });
    // A module keeps nothing here.
    if (this.oracle) layers.push(new Uint8Array(tokens * KV_ROW * 4));
    return { format: "f32", tokens, rowBytes: KV_ROW * 4, layers };
  }

  async importKv({ layers, tokens }: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    const cache = onto === undefined ? undefined : this.#cache(onto);
    if (layers.length !== this.layers.end - this.layers.begin + (this.oracle ? 1 : 0)) throw new ModelError("bad-batch", "other layers");
    const sequence = onto ?? (await this.open());
    for (const [index, sums] of (cache ?? this.#cache(sequence)).entries()) {
      const values = new Float32Array((layers[index] ?? new Uint8Array()).slice().buffer);
      for (let row = 0; row < tokens; row++) sums.push(values[row * KV_ROW] ?? 0);
    }
    this.imported += tokens;
    return sequence;
  }

  async draft({ entries, drafts = 1 }: Batch): Promise<StepOutput> {
    const { oracle } = this;
    if (!oracle) throw new ModelError("unsupported", "no MTP module");
    const streams = entries.flatMap(({ sequence, tokens, quiet, draftAfter = tokens.length - 1 }) => {
      const before = this.#previous.get(sequence);
      if (tokens === "sampled" || !before || tokens.length > before.rows)
        throw new ModelError("bad-batch", "the rows are not those of the step before");
      return quiet === true ? [] : [{ sequence, position: before.start + draftAfter + 2 }];
    });
    const step = this.#results.length;
    for (let index = 0; index < drafts; index++) {
      this.#results.push([]);
      this.#drafted.set(
        step + index,
        streams.map(({ position }) => oracle(position + index)),
      );
    }
    // Further ones take positions.
    for (const { sequence, position } of streams)
      for (const sums of this.#cache(sequence)) while (sums.length < position - 1 + drafts - 1) sums.push(Number.NaN);
    return { step };
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return Array.from({ length: count }, (_, index) => this.#drafted.get(first + index) ?? []);
  }

  async destroy(): Promise<void> {}

  #row(sequence: SequenceSlot, input: number[]): number[] {
    let row = input;
    for (const [index, sums] of this.#cache(sequence).entries()) {
      const layer = this.layers.begin + index;
      const sum = Math.fround((sums.at(-1) ?? 0) * 0.75 + row.reduce((total, value) => total + value, 0) * (0.1 + 0.01 * layer));
      sums.push(sum);
      row = row.map((value, column) => Math.fround(Math.sin(value * 1.3 + sum + 0.1 * column)));
    }
    return row;
  }

  #cache(sequence: SequenceSlot): number[][] {
    const cache = this.#sequences.get(sequence);
    if (!cache) throw new ModelError("unknown-sequence", `no sequence ${sequence}`);
    return cache;
  }
}

/** As `RemoteStage` does it, in calls of their own. */
export async function forwardTold(stage: Stage, batch: Batch): Promise<ToldStep> {
  const output = await stage.forward(batch);
  const [tokens = []] = await stage.sampled(output.step, 1);
  const [logprobs] = batch.logprobs === true ? await stage.logprobs(output.step, 1) : [];
  return { output, tokens, ...(logprobs && { logprobs }) };
}

/** Greedy text of a prompt, by steps as the engine makes them. */
export async function answer(
  stage: Stage,
  prompt: readonly number[],
  count: number,
  between: (token: number) => void | Promise<void> = () => {},
): Promise<readonly number[]> {
  const sequence = await stage.open();
  const { maxTokens } = await stage.describe();
  let step = 0;
  for (let at = 0; at < prompt.length; at += maxTokens)
    ({ step } = await stage.forward({
      entries: [{ sequence, tokens: prompt.slice(at, at + maxTokens), quiet: at + maxTokens < prompt.length }],
      output: "sample",
    }));
  const ids: number[] = [];
  for (let i = 0; i < count; i++) {
    const [[id = -1] = []] = await stage.sampled(step, 1);
    ids.push(id);
    await between(i);
    ({ step } = await stage.forward({ entries: [{ sequence, tokens: stage instanceof FakeStage ? [id] : "sampled" }], output: "sample" }));
  }
  await stage.close(sequence);
  return ids;
}

function logprobsOf(id: number): ChosenLogprobs {
  return { logprob: -0.5, top: [{ id, logprob: -0.5 }] };
}

function embed(id: number): number[] {
  return Array.from({ length: FAKE.hiddenSize }, (_, column) => Math.fround(Math.cos(id * 0.37 + column)));
}

function choose(row: readonly number[]): number {
  const sum = row.reduce((total, value, column) => total + value * (column + 1), 0);
  return Math.floor(Math.abs(sum) * 1000) % FAKE.vocabSize;
}
