/**
 * A stage of many sequences whose model is a rule over the whole sequence, with a pool of KV blocks that hold token ids: a block that is shared wrongly, freed too early or
 * written by another shows in the tokens. It refuses what a real stage refuses. Readings take a random while.
 */
import {
  type Batch,
  type ChosenLogprobs,
  type KvBlock,
  NO_TOKEN,
  type SamplingParameters,
  type SequenceSlot,
  type Stage,
  type StageDescription,
  type StepOutput,
  type TokenHistory,
  penalizes,
} from "@shoal/model";

const MOST_DRAFTS = 3;

export interface FakePagedStageOptions {
  readonly maxSequences: number;
  readonly blocks: number;
  readonly blockSize: number;
  readonly contextTokens: number;
  readonly maxTokens: number;
  readonly maxOutputs?: number;
  /** The token after these, for this sampling; penalties know of the sequence what `history` says. */
  readonly rule: (ids: readonly number[], sampling: SamplingParameters, history: TokenHistory) => number;
  /** An MTP module that is right about the token after these unless it says so. */
  readonly mistaken?: (ids: readonly number[]) => boolean;
  /** It takes steps that chain. */
  readonly chains?: boolean;
  /** The device is lost at this call, counted from 1, and stays so. */
  readonly lostAtCall?: number;
  /** Awaited by every reading. */
  readonly beforeRead?: () => Promise<void>;
}

interface FakeSequence {
  length: number;
  readonly blocks: KvBlock[];
  sampling: SamplingParameters;
  promptIds: readonly number[];
  generatedIds: number[];
  last: number;
  drafts: number[];
  /** Rows of the step before, for drafts. */
  rows: number;
  /** After a step that chained: positions that stand, which nobody else knows. Behind them, up to `length`, lies what is not the sequence's. */
  stands: number | undefined;
}

const GREEDY: SamplingParameters = { temperature: 0, topP: 1, topK: 0, minP: 0, seed: 0n };

/** As it arrives from a worker: the name is what is left of its class. */
export function deviceLost(): Error {
  const error = new Error("pulled out");
  error.name = "DeviceLostError";
  return error;
}

/** Of token `id` after `ids`: other ids before it give it another one. The likeliest are tokens 0 to 19. */
export function ruleLogprobs(ids: readonly number[], id: number): ChosenLogprobs {
  let hash = 3;
  for (const before of ids) hash = (Math.imul(hash, 33) + before) >>> 0;
  const logprob = (token: number): number => -((hash % 1000) + token / 1000);
  return { logprob: logprob(id), top: Array.from({ length: 20 }, (_, token) => ({ id: token, logprob: logprob(token) })) };
}

export class FakePagedStage implements Stage {
  /** Calls of `sampled`. */
  readonly readings: { readonly first: number; readonly count: number }[] = [];
  /** Steps with a mask. */
  readonly masked = new Set<number>();
  /** Drafts that were verified, by sequence. */
  readonly verified = new Map<number, number>();
  /** Of each step: tokens by sequence. */
  readonly steps: {
    readonly tokens: readonly number[];
    readonly sampled: readonly number[];
    readonly logprobs: readonly ChosenLogprobs[];
  }[] = [];
  calls = 0;
  /** Thrown by calls while set. */
  failure: Error | undefined;
  /** Drafts of each drafting step. */
  readonly drafts: (readonly number[])[] = [];
  readonly #options: FakePagedStageOptions;
  readonly #contents: number[][];
  readonly #holders: number[];
  readonly #sequences = new Map<number, FakeSequence>();

  constructor(options: FakePagedStageOptions) {
    this.#options = options;
    this.#contents = Array.from({ length: options.blocks }, () => []);
    this.#holders = Array.from({ length: options.blocks }, () => 0);
  }

  get freeBlocks(): number {
    return this.#holders.filter((holders) => holders === 0).length;
  }

  get openSequences(): number {
    return this.#sequences.size;
  }

  async describe(): Promise<StageDescription> {
    const { maxSequences, contextTokens, maxTokens, maxOutputs = maxSequences, blockSize } = this.#options;
    return {
      layers: { begin: 0, end: 1 },
      hasEmbedding: true,
      hasHead: true,
      hasMtp: this.#options.mistaken !== undefined,
      maxDrafts: this.#options.mistaken ? MOST_DRAFTS : 0,
      chainsDrafts: this.#options.chains ?? false,
      vocabSize: 1000,
      contextTokens,
      maxSequences,
      maxTokens,
      maxOutputs,
      memory: {},
      freeKvBlocks: this.freeBlocks,
      kvBlockSize: blockSize,
    };
  }

  async open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    this.#check();
    const { maxSequences, blockSize } = this.#options;
    for (const block of prefix) this.#checkHeld(block);
    const slot = Array.from({ length: maxSequences }, (_, index) => index).find((index) => !this.#sequences.has(index));
    if (slot === undefined) throw new Error("all sequences are in use");
    for (const block of prefix) this.#hold(block, 1);
    this.#sequences.set(slot, {
      length: prefix.length * blockSize,
      blocks: [...prefix],
      sampling: GREEDY,
      promptIds: [],
      generatedIds: [],
      last: -1,
      drafts: [],
      rows: 0,
      stands: undefined,
    });
    return slot as SequenceSlot;
  }

  async retain(slot: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    this.#check();
    const { length, blocks } = this.#sequence(slot);
    if (first + count > Math.floor(length / this.#options.blockSize)) throw new Error("blocks are not full");
    const retained = blocks.slice(first, first + count);
    for (const block of retained) this.#hold(block, 1);
    return retained;
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    this.#check();
    for (const block of blocks) {
      this.#checkHeld(block);
      this.#hold(block, -1);
    }
  }

  /** By drafts, those that were wrong and the positions of further ones; or by what was computed before a grammar began to hold. */
  async truncate(slot: SequenceSlot, length: number): Promise<void> {
    this.#check();
    const sequence = this.#sequence(slot);
    if (length >= sequence.length) throw new Error(`cut from ${sequence.length} to ${length}`);
    // As when a grammar begins to hold: what it goes on with is named.
    if (sequence.stands !== undefined && length < sequence.stands) sequence.stands = length;
    this.#cut(sequence, length);
  }

  #cut(sequence: FakeSequence, length: number): void {
    const { blockSize } = this.#options;
    while (sequence.length > length) {
      sequence.length--;
      const block = sequence.blocks.at(-1);
      if (block === undefined || (this.#holders[block] ?? 0) !== 1) throw new Error("a block that others hold is cut");
      this.#contents[block]?.pop();
      if (sequence.length % blockSize > 0) continue;
      sequence.blocks.pop();
      this.#hold(block, -1);
    }
  }

  async close(slot: SequenceSlot): Promise<void> {
    this.#check();
    for (const block of this.#sequence(slot).blocks) this.#hold(block, -1);
    this.#sequences.delete(slot);
  }

  async setSampling(slot: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    this.#check();
    Object.assign(this.#sequence(slot), {
      sampling: parameters,
      promptIds: history?.promptIds ?? [],
      generatedIds: [...(history?.generatedIds ?? [])],
    });
  }

  async forward({ entries, output, logprobs = false, chain = false }: Batch): Promise<StepOutput> {
    this.#check();
    const { maxTokens, maxOutputs = this.#options.maxSequences } = this.#options;
    if (output !== "sample") throw new Error(`output ${output}`);
    const total = entries.reduce((sum, { tokens, verify = 0 }) => sum + (tokens === "sampled" ? 1 : tokens.length) + verify, 0);
    if (total < 1 || total > maxTokens) throw new Error(`a step of ${total} tokens`);
    const outputs = entries.reduce(
      (sum, { quiet, verify = 0, followedBy = [] }) => sum + followedBy.length + (quiet === true ? 0 : 1 + verify),
      0,
    );
    if (outputs > maxOutputs) throw new Error("too many outputs");
    if (new Set(entries.map(({ sequence }) => sequence)).size < entries.length) throw new Error("a sequence twice in a step");
    if (entries.some(({ masks }) => masks)) this.masked.add(this.steps.length);
    const sampled: number[] = [];
    const probabilities: ChosenLogprobs[] = [];
    if (chain && this.#options.chains !== true) throw new Error("steps do not chain here");
    const give = (sequence: FakeSequence, id: number, stands = true): void => {
      sampled.push(stands ? id : NO_TOKEN);
      if (logprobs) probabilities.push(ruleLogprobs(this.#ids(sequence), id));
    };
    for (const sequence of this.#sequences.values()) sequence.rows = 0;
    for (const { sequence: slot, tokens, followedBy = [], quiet = false, verify = 0, masks } of entries) {
      const sequence = this.#sequence(slot);
      if (masks && (quiet || masks.length !== 1 + verify)) throw new Error(`${masks.length} masks`);
      const ids = tokens === "sampled" ? [sequence.last] : tokens;
      const end = sequence.length + ids.length + verify;
      const { stands = sequence.length } = sequence;
      if (chain && tokens === "sampled") this.#cut(sequence, stands);
      if (stands !== sequence.length) throw new Error(`a step goes on from position ${sequence.length}, but ${stands} stand`);
      if (ids.some((id) => id < 0)) throw new Error("nothing was sampled for this sequence");
      if (followedBy.length > ids.length - (quiet ? 0 : 1)) throw new Error("more followers than tokens");
      for (const [index, id] of ids.entries()) {
        this.#append(sequence, id);
        const follower = followedBy[index];
        if (follower !== undefined) give(sequence, follower);
      }
      // As on a device, whatever the entry says of being quiet, nothing is chosen from a prompt's middle.
      sequence.last = quiet ? -1 : this.#choose(sequence, masks?.[0]);
      if (!quiet) give(sequence, sequence.last);
      sequence.rows = ids.length + verify;
      if (verify > 0 && penalizes(sequence.sampling)) throw new Error("a draft is verified for a sequence with penalties");
      if (verify > 0) this.verified.set(slot, (this.verified.get(slot) ?? 0) + verify);
      if (verify > sequence.drafts.length) throw new Error(`${verify} drafts to verify, but ${sequence.drafts.length} were made`);
      let right = 0;
      for (const [index, draft] of sequence.drafts.slice(0, verify).entries()) {
        if (right === index && draft === sequence.last) right++;
        // A stage would do it, in vain.
        if (masks && !allows(masks[index], draft)) throw new Error("a draft is verified that cannot be right");
        this.#append(sequence, draft);
        const chosen = this.#choose(sequence, masks?.[index + 1]);
        const counts = !chain || right === index + 1;
        if (counts) sequence.last = chosen;
        give(sequence, chosen, counts);
      }
      sequence.stands = chain ? sequence.length - verify + right : undefined;
      if (chain) this.#hide(sequence, end);
    }
    this.steps.push({ tokens: entries.map(({ tokens }) => (tokens === "sampled" ? 1 : tokens.length)), sampled, logprobs: probabilities });
    return { step: this.steps.length - 1 };
  }

  async draft({ entries, drafts: count = 1, chain = false }: Batch): Promise<StepOutput> {
    this.#check();
    const drafts: number[][] = Array.from({ length: count }, () => []);
    for (const [index, { sequence: slot, tokens, quiet = false, draftAfter, draftFrom = 0, verify = 0 }] of entries.entries()) {
      const sequence = this.#sequence(slot);
      if (chain) {
        const named = tokens === "sampled" ? [] : tokens;
        const rows = sequence.rows - draftFrom;
        if (
          sequence.stands === undefined ||
          rows !== named.length + (quiet ? 0 : 1 + verify) ||
          (verify > 0 && named.length + draftFrom > 0)
        )
          throw new Error(`chained drafts of ${named.length} and ${1 + verify} rows, not ${rows}`);
        const after = this.#ids(sequence).slice(sequence.length - rows + 1);
        if (named.some((id, row) => row < after.length && id !== after[row]))
          throw new Error(`drafts after ${named.join()}, not ${after.join()}`);
        if (quiet) continue;
        const { length, stands } = sequence;
        this.#guess(sequence, [...this.#ids(sequence).slice(0, stands), sequence.last], drafts);
        this.#hide(sequence, length + count - 1);
        continue;
      }
      const missing = sequence.rows - tokens.length;
      if (tokens === "sampled" || missing < 0 || (missing > 0 && index < entries.length - 1))
        throw new Error(`drafts of ${tokens.length} rows, not ${sequence.rows}`);
      if (quiet) continue;
      const row = draftAfter ?? tokens.length - 1;
      const known = [...this.#ids(sequence).slice(0, sequence.length - sequence.rows + row + 1), tokens[row] ?? -1];
      // A draft lies beside the token before the one that it follows.
      const { length } = sequence;
      this.#guess(sequence, known, drafts);
      this.#hide(sequence, Math.max(length, known.length + count - 2));
    }
    this.drafts.push(...drafts);
    return { step: this.drafts.length - count };
  }

  /** Drafts after these ids, one for each of the steps. */
  #guess(sequence: FakeSequence, ids: readonly number[], steps: readonly number[][]): void {
    const known = [...ids];
    sequence.drafts = [];
    for (const step of steps) {
      const right = this.#options.rule(known, sequence.sampling, sequence);
      const draft = this.#options.mistaken?.(known) === true ? (right + 1) % 900 : right;
      sequence.drafts.push(draft);
      step.push(draft);
      known.push(draft);
    }
  }

  /** Positions up to `length` are taken, by nothing that counts. */
  #hide(sequence: FakeSequence, length: number): void {
    while (sequence.length < length) this.#append(sequence, -1);
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    this.#check();
    return this.drafts.slice(first, first + count);
  }

  async logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    await this.sampled(first, count);
    return this.steps.slice(first, first + count).map(({ logprobs }) => logprobs);
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    this.#check();
    this.readings.push({ first, count });
    if (this.steps.length - first > 64) throw new Error(`step ${first} is no longer kept`);
    const tokens = this.steps.slice(first, first + count).map(({ sampled }) => sampled);
    if (tokens.length !== count) throw new Error(`steps ${first} to ${first + count} are not there`);
    await this.#options.beforeRead?.();
    this.#check();
    return tokens;
  }

  exportKv(): Promise<never> {
    return Promise.reject(new Error("nothing is moved here"));
  }

  importKv(): Promise<never> {
    return Promise.reject(new Error("nothing is moved here"));
  }

  async destroy(): Promise<void> {}

  #append(sequence: FakeSequence, id: number): void {
    const { blockSize, contextTokens } = this.#options;
    if (sequence.length >= contextTokens) throw new Error("the context is full");
    if (sequence.length % blockSize === 0) {
      const free = this.#holders.indexOf(0);
      if (free < 0) throw new Error("out of KV blocks");
      this.#hold(free as KvBlock, 1);
      this.#contents[free] = [];
      sequence.blocks.push(free as KvBlock);
    }
    const block = sequence.blocks.at(-1);
    if (block === undefined) throw new Error("no block");
    if ((this.#holders[block] ?? 0) !== 1) throw new Error("a block that others hold is written");
    this.#contents[block]?.push(id);
    sequence.length++;
  }

  /** Counts what it chooses, as a device does. */
  #choose(sequence: FakeSequence, mask?: Uint32Array): number {
    const id = firstAllowed(this.#options.rule(this.#ids(sequence), sequence.sampling, sequence), mask);
    sequence.generatedIds.push(id);
    return id;
  }

  #ids(sequence: FakeSequence): readonly number[] {
    return sequence.blocks.flatMap((block) => this.#contents[block] ?? []).slice(0, sequence.length);
  }

  #sequence(slot: SequenceSlot): FakeSequence {
    const sequence = this.#sequences.get(slot);
    if (!sequence) throw new Error(`sequence ${slot} is not open`);
    return sequence;
  }

  #hold(block: KvBlock, by: number): void {
    this.#holders[block] = (this.#holders[block] ?? 0) + by;
  }

  #checkHeld(block: KvBlock): void {
    if (!((this.#holders[block] ?? 0) > 0)) throw new Error(`nobody holds block ${block}`);
  }

  #check(): void {
    this.calls++;
    if (this.calls === this.#options.lostAtCall) this.failure = deviceLost();
    if (this.failure) throw this.failure;
  }
}

export function allows(mask: Uint32Array | undefined, id: number): boolean {
  return !mask || (((mask[id >>> 5] ?? 0) >>> (id & 31)) & 1) === 1;
}

/** The token, or the first after it that a mask allows. */
export function firstAllowed(token: number, mask: Uint32Array | undefined): number {
  for (let i = 0; i < 1000; i++) {
    const id = (token + i) % 1000;
    if (allows(mask, id)) return id;
  }
  throw new Error("a mask allows nothing");
}
