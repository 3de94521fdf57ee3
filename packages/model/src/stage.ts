/**
 * A Stage is a run of layers somewhere: on this thread's device, in a worker, on a peer. Whoever drives it does not know where. Tokens or hidden states go in; hidden
 * states, logits, or sampled tokens come out.
 *
 * A sequence is a KV cache's worth of tokens. Steps of a stage run in the order in which they were submitted; `forward` resolves when its step has been submitted and
 * what it was asked to return has arrived, and a step that only samples returns at once: its tokens are read later, several steps at a time, by `sampled`.
 */
import type { LogitAdjustments, SamplingParams } from "@shoal/kernels";
import type { KvBlock, SequenceSlot } from "./kvCache.ts";
import type { KvRange, KvSnapshot } from "./kvTransfer.ts";

/** How to choose the next token. Greedy where `temperature` is 0. */
export type SamplingParameters = SamplingParams & LogitAdjustments;

/** What penalties look at: the ids of a sequence so far. */
export interface TokenHistory {
  readonly promptIds: readonly number[];
  readonly generatedIds: readonly number[];
}

/** Of a chosen token. Natural logarithms of what the model gave, before temperature, bias, penalties, masks and filters; -9999 at least. */
export interface ChosenLogprobs {
  readonly logprob: number;
  /** Likeliest first; up to TOP_LOGPROBS, without those of no probability. */
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
}

export interface BatchEntry {
  readonly sequence: SequenceSlot;
  /** Ids that continue the sequence; or "sampled": the one that the last step sampled for it. */
  readonly tokens: readonly number[] | "sampled";
  /** Instead of tokens, for a stage that does not hold the first layer: [tokens, hiddenSize] f32; `tokens` then only gives the count. */
  readonly hidden?: Float32Array<ArrayBuffer>;
  /** With output `sample`: only extend the cache, choose nothing. For the chunks of a prompt before its last. */
  readonly quiet?: boolean;
  /**
   * With output `sample`: so many of the tokens last drafted for the sequence, up to `maxDrafts`, follow the others, and a token is chosen after the last of the others and each of
   * them. A draft was right if it is what is chosen after the token before it, and the drafts before it were right. The next step must name its tokens: "sampled" may stand for any
   * of these.
   */
  readonly verify?: number;
  /**
   * With output `sample`: for each token that is chosen, which ones it may be: a bit an id, lowest first, in ceil(vocabSize / 32) words. Without them it may be any.
   */
  readonly masks?: readonly Uint32Array<ArrayBuffer>[];
  /**
   * With output `sample`: the tokens that are known to follow the first tokens of this entry, one each; a token is chosen after its last as always, unless it is quiet.
   * `sampled` and `logprobs` give them as if they had been chosen, before what is.
   */
  readonly followedBy?: readonly number[];
  /** For `draft`: the token of this entry, from 0, after which one is drafted; the last by default. */
  readonly draftAfter?: number;
  /** For `draft`: of the rows that the sequence had in the step before, the first that the module runs over; 0 by default. Not where drafts were verified. */
  readonly draftFrom?: number;
}

/** What to keep of a step for comparison with other implementations. */
export interface Capture {
  /** Residual stream after each layer. */
  readonly hidden?: boolean;
  /** Experts chosen in each MoE layer and their weights. */
  readonly routing?: boolean;
}

export interface Batch {
  readonly entries: readonly BatchEntry[];
  /**
   * `none`: only extend the caches. `sample`: choose a token for each sequence, after its last entry, unless that is quiet. `lastLogits`, `allLogits`: return logits of each sequence's last
   * token, or of all. `hidden`: return the residual stream, for the next stage.
   */
  readonly output: "none" | "sample" | "lastLogits" | "allLogits" | "hidden";
  readonly capture?: Capture;
  /** With output `sample`, in `draft`: tokens to draft for each entry that is not quiet, one after another; 1 by default, up to `maxDrafts`. */
  readonly drafts?: number;
  /** With output `sample`, in `forward`: keeps log-probabilities for `logprobs`. */
  readonly logprobs?: boolean;
  /**
   * With output `sample`, on a stage that `chainsDrafts`: which drafts are right is settled on the device, so that steps follow one another before it is known here.
   * In `forward`, "sampled" is then the token after the last draft of the sequence that was right in its last step, at the position after that; `sampled` gives NO_TOKEN for
   * what was chosen after wrong ones. In `draft`, right after such a step, entries name the tokens that are known to follow their first rows, "sampled" if none, and have
   * the `verify` that they had: the other rows have the tokens chosen after them, and drafts go on from the last that stands. Lengths, and rooms for them, are what they are if all drafts were right, until `truncate` says otherwise.
   */
  readonly chain?: boolean;
}

export interface RoutingCapture {
  readonly layer: number;
  /** [tokens, nActivatedExperts], by falling biased score. */
  readonly indices: Int32Array<ArrayBuffer>;
  readonly weights: Float32Array<ArrayBuffer>;
}

export interface StepOutput {
  /** Number of the step, for `sampled`. */
  readonly step: number;
  /** [rows, vocabSize], rows in the order of the entries. */
  readonly logits?: Float32Array<ArrayBuffer>;
  /** [tokens, hiddenSize] */
  readonly hidden?: Float32Array<ArrayBuffer>;
  /** By layer: [tokens, hiddenSize]. */
  readonly layerHidden?: readonly Float32Array<ArrayBuffer>[];
  readonly routing?: readonly RoutingCapture[];
}

export interface StageDescription {
  readonly layers: { readonly begin: number; readonly end: number };
  readonly hasEmbedding: boolean;
  readonly hasHead: boolean;
  readonly hasMtp: boolean;
  /** Most tokens that `draft` gives for a sequence at once, and that a step verifies; 0 without an MTP module. */
  readonly maxDrafts: number;
  /** Whether it takes batches that `chain`. */
  readonly chainsDrafts: boolean;
  readonly vocabSize: number;
  readonly contextTokens: number;
  readonly maxSequences: number;
  /** Most tokens in one step. */
  readonly maxTokens: number;
  /** Most rows in one step after which a token is chosen, or whose logits are given. */
  readonly maxOutputs: number;
  /** Bytes on the device, by kind. */
  readonly memory: Readonly<Record<string, number>>;
  readonly freeKvBlocks: number;
  readonly kvBlockSize: number;
}

export interface Stage {
  describe(): Promise<StageDescription>;
  /** Opens a sequence: empty, or with full KV blocks that somebody holds. @throws ModelError too-many-sequences */
  open(prefix?: readonly KvBlock[]): Promise<SequenceSlot>;
  /** Takes a hold of full blocks of a sequence, so that others may begin with them; they are free when every holder, sequences included, has let go. */
  retain(sequence: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]>;
  release(blocks: readonly KvBlock[]): Promise<void>;
  /** A sequence's KV rows, all or those of a range, for another stage of the same layers. */
  exportKv(sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot>;
  /** Opens a sequence with the rows of a snapshot, or adds them to one that is open. @returns its slot @throws ModelError bad-batch for one that does not fit */
  importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot>;
  /** Forgets tokens from `length` on. The cut may not lie within a block that others hold. */
  truncate(sequence: SequenceSlot, length: number): Promise<void>;
  close(sequence: SequenceSlot): Promise<void>;
  /**
   * Sets how tokens of a sequence are chosen from now on; greedy until then. What is chosen later counts for penalties by itself.
   * @param history what penalties know of the sequence; nothing by default
   */
  setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void>;
  /** @throws ModelError for a batch that does not fit, DeviceLostError or GpuError. Nothing has changed if it throws a ModelError. */
  forward(batch: Batch): Promise<StepOutput>;
  /**
   * Runs the MTP module over rows of the step before, before any of them is cut off: a row takes the token after it (`tokens[i]`, or "sampled") and its hidden state. Of each sequence these
   * are the first rows that it had, or those from `draftFrom` on; sequences may be left out. What the module has run over it attends to, as far as that goes back without a gap.
   * Samples, or returns logits, as `output` says. Has its own KV cache, at the same positions. Further drafts take the draft before, and the module's own state after it; each is a
   * step of its own, numbered from the one that is returned on. They take a position each, which sequences are extended by where they lack it: truncate them afterwards.
   */
  draft(batch: Batch): Promise<StepOutput>;
  /**
   * Tokens sampled by steps `first .. first + count`: for each step, in the order of its entries, those that were said to follow and one for each entry that was not quiet, or one
   * for each token of an entry that was verified; NO_TOKEN where a chained step chose after a wrong draft. Nothing for steps of `draft`.
   * Waits for the device.
   */
  sampled(first: number, count: number): Promise<readonly (readonly number[])[]>;
  /** Log-probabilities of what `sampled` gives, in the same order; nothing for steps whose batch did not ask for them. */
  logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]>;
  /** As `sampled`, for steps of `draft`. */
  drafted(first: number, count: number): Promise<readonly (readonly number[])[]>;
  destroy(): Promise<void>;
}

/** Rows of an entry of a step that samples which `sampled` and `logprobs` tell of: after which the next token is known, and after which one is chosen. */
export function toldRows({ followedBy = [], quiet = false, verify = 0 }: BatchEntry): number {
  return followedBy.length + (quiet ? 0 : 1 + verify);
}
