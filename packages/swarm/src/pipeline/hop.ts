/** One stage of a path, as the client has it: a stage on a peer, watched. Whatever it answers is checked before anything is made of it. */
import type { DraftedStep, Drafting, ToldStep } from "@shoal/cluster";
import type { Batch, ChosenLogprobs, KvRowShape, SequenceSlot, Stage, StageDescription, StepOutput } from "@shoal/model";
import type { Clock } from "../clock.ts";
import { SwarmError } from "../errors.ts";
import type { Hop } from "../plan/path.ts";
import type { PushedStep, Pushing } from "../push/remotePushing.ts";

/** What was opened for a hop: the stage, when it is lost, and how to let go of it. */
export interface OpenedHop {
  readonly stage: Stage;
  /** A step of `stage` with its tokens, by one message each way. */
  forwardTold(batch: Batch): Promise<ToldStep>;
  /** As `forwardTold`, and drafts after it: of a stage with an MTP module. */
  forwardDrafted(batch: Batch, drafting: Drafting): Promise<DraftedStep>;
  /** Where the peer can push to others, and others to it. */
  readonly pushing?: Pushing;
  readonly lost: Promise<unknown>;
  /** For how long nothing has been heard of it, where that is longer than usual; else 0. */
  silentMs?(): number;
  close(): void;
}

/** Why a peer must be replaced. `lied`: it answered something that cannot be. `doubted`: it did, or something wrong, and went by KV rows of another peer's. `full`: it has no room. */
export type Fault = "lost" | "stalled" | "lied" | "doubted" | "full";

export class HopFault extends SwarmError {
  readonly peer: string;
  readonly fault: Fault;
  constructor(peer: string, fault: Fault, reason: string, options?: ErrorOptions) {
    super("link-lost", `Cannot go on with '${peer}': ${reason}`, options);
    this.peer = peer;
    this.fault = fault;
  }
}

export interface ModelShape extends KvRowShape {
  readonly nLayers: number;
  readonly hiddenSize: number;
  readonly vocabSize: number;
}

/** How long an answer is waited for, and how. */
export interface Watch {
  readonly clock: Clock;
  /** The most, where others have its layers; four times that where nobody has: to give up whoever is slow and alone gains nothing. */
  readonly stallMs: number;
  /** Whether others have its layers too: then one that has fallen silent, or has no room, is not waited for. */
  readonly replaceable: () => boolean;
}

/** Between looks whether a peer that is to answer has fallen silent. */
const LOOK_MS = 100;
const ALONE_FACTOR = 4;

export class ActiveHop {
  readonly hop: Hop;
  readonly description: StageDescription;
  /** The client's sequences, as this stage calls them. */
  readonly slots = new Map<SequenceSlot, SequenceSlot>();
  /** Of those, the ones whose KV rows another peer computed in part, and who: what comes out wrong may be that one's fault. */
  readonly inherited = new Map<SequenceSlot, string>();
  readonly #opened: OpenedHop;
  readonly #loss: Loss;
  readonly #watch: Watch;
  readonly #shape: ModelShape;
  #doubt: HopFault | undefined;

  private constructor(hop: Hop, opened: OpenedHop, loss: Loss, description: StageDescription, shape: ModelShape, watch: Watch) {
    this.hop = hop;
    this.#opened = opened;
    this.#loss = loss;
    this.description = description;
    this.#watch = watch;
    this.#shape = shape;
  }

  /** @throws HopFault */
  static async open(hop: Hop, opened: OpenedHop, shape: ModelShape, watch: Watch): Promise<ActiveHop> {
    try {
      const loss = new Loss(hop.peer, opened.lost);
      const description = await watched(hop.peer, opened, loss, watch, opened.stage.describe());
      const { layers, vocabSize, hasHead, hasEmbedding } = description;
      const { begin, end } = hop.layers;
      const right =
        layers.begin === begin &&
        layers.end === end &&
        vocabSize === shape.vocabSize &&
        hasEmbedding === (begin === 0) &&
        hasHead === (end === shape.nLayers);
      if (!right) throw new HopFault(hop.peer, "lied", `it announced layers ${begin} to ${end} and has ${layers.begin} to ${layers.end}`);
      return new ActiveHop(hop, opened, loss, description, shape, watch);
    } catch (error) {
      opened.close();
      throw error;
    }
  }

  get stage(): Stage {
    return this.#opened.stage;
  }

  get pushing(): Pushing | undefined {
    return this.#opened.pushing;
  }

  get begin(): number {
    return this.hop.layers.begin;
  }

  get end(): number {
    return this.hop.layers.end;
  }

  close(): void {
    this.#opened.close();
  }

  /** From now on it counts as failed. */
  doubt(reason: string): void {
    this.#doubt ??= new HopFault(this.hop.peer, "doubted", reason);
  }

  /** The sequence is closed. */
  forget(sequence: SequenceSlot): void {
    this.slots.delete(sequence);
    this.inherited.delete(sequence);
  }

  /** @throws HopFault where the peer is lost or stalls; otherwise what the stage throws */
  call<T>(work: Promise<T>): Promise<T> {
    if (this.#doubt) {
      work.catch(() => {});
      return Promise.reject(this.#doubt);
    }
    return watched(this.hop.peer, this.#opened, this.#loss, this.#watch, work);
  }

  slot(sequence: SequenceSlot): SequenceSlot {
    const slot = this.slots.get(sequence);
    if (slot === undefined) throw new SwarmError("closed", `Cannot use sequence ${sequence}: it is not open`);
    return slot;
  }

  /** A step, with its hidden states checked. @throws HopFault */
  async forward(batch: Batch, rows: number): Promise<StepOutput> {
    const output = await this.call(this.stage.forward(batch));
    this.#check(batch, output, rows);
    return output;
  }

  /** A step of the last stage, with its tokens, as many as told, and with drafts. @throws HopFault */
  async forwardTold(batch: Batch, rows: number, told: number, drafting?: Drafting): Promise<DraftedStep> {
    const step = drafting
      ? this.#opened.forwardDrafted(batch, drafting)
      : this.#opened.forwardTold(batch).then((given): DraftedStep => ({ ...given, drafts: [] }));
    const given = await this.call(step);
    this.#check(batch, given.output, rows);
    this.#checkTold(batch, given, told);
    this.#checkDrafts(given, drafting);
    return given;
  }

  /** Waits for a step that was begun before. @param told tokens that it tells of; undefined where nobody asked @throws HopFault */
  async pushed(
    step: Promise<PushedStep>,
    batch: Batch,
    rows: number,
    told: number | undefined,
    drafting: Drafting | undefined,
  ): Promise<PushedStep> {
    const given = await this.call(step);
    this.#check(batch, given.output, rows);
    if (told !== undefined) this.#checkTold(batch, given, told);
    this.#checkDrafts(given, drafting);
    return given;
  }

  /** For values that cannot be: they may come of rows that it was given. */
  get #wrong(): Fault {
    return this.inherited.size > 0 ? "doubted" : "lied";
  }

  /** Whether drafts are right is seen by what is chosen; here that they are ids, and not too many. */
  #checkDrafts({ drafts }: DraftedStep, drafting: Drafting | undefined): void {
    const { vocabSize } = this.#shape;
    const most = drafting?.drafts ?? 0;
    if (!drafts.every((ids) => ids.length <= most && ids.every((id) => id < vocabSize)))
      throw new HopFault(this.hop.peer, "lied", `it drafted what is no token, or more than ${most} for a sequence`);
  }

  #checkTold(batch: Batch, { tokens, logprobs }: ToldStep, told: number): void {
    const { vocabSize } = this.#shape;
    if (tokens.length !== told || !tokens.every((id) => Number.isInteger(id) && id >= 0 && id < vocabSize))
      throw new HopFault(this.hop.peer, "lied", `it chose ${tokens.length} tokens, expected ${told} ids below ${vocabSize}`);
    if (batch.logprobs === true && !(logprobs?.length === told && logprobs.every((each) => soundLogprobs(each, vocabSize))))
      throw new HopFault(
        this.hop.peer,
        this.#wrong,
        `it gave ${logprobs?.length ?? 0} log-probabilities, expected ${told}, none above 0, of ids below ${vocabSize}`,
      );
  }

  #check(batch: Batch, { hidden, logits }: StepOutput, rows: number): void {
    if (batch.output === "hidden") this.#checkHidden(hidden, rows);
    if (logits && !finite(logits)) throw new HopFault(this.hop.peer, this.#wrong, "its logits are not all numbers");
  }

  #checkHidden(hidden: Float32Array | undefined, rows: number): void {
    const expected = rows * this.#shape.hiddenSize;
    if (hidden?.length !== expected)
      throw new HopFault(this.hop.peer, "lied", `it gave ${hidden?.length ?? 0} hidden values, expected ${expected}`);
    if (!finite(hidden)) throw new HopFault(this.hop.peer, this.#wrong, "its hidden states are not all numbers");
  }
}

/** When a peer is gone, for all calls that wait for it: a call that waited for the promise itself would be kept, with what came of it, for as long as the peer is there. */
class Loss {
  #fault: HopFault | undefined;
  readonly #listeners = new Set<(fault: HopFault) => void>();

  constructor(peer: string, lost: Promise<unknown>) {
    void lost.then((reason) => {
      this.#fault = new HopFault(peer, "lost", reason instanceof Error ? reason.message : "it is gone", { cause: reason });
      for (const tell of this.#listeners) tell(this.#fault);
      this.#listeners.clear();
    });
  }

  /** @returns what ends it */
  onLoss(tell: (fault: HopFault) => void): () => void {
    if (this.#fault) tell(this.#fault);
    else this.#listeners.add(tell);
    return () => void this.#listeners.delete(tell);
  }
}

async function watched<T>(
  peer: string,
  opened: OpenedHop,
  loss: Loss,
  { clock, stallMs, replaceable }: Watch,
  work: Promise<T>,
): Promise<T> {
  let cancel: () => void = () => {};
  let stopListening: () => void = () => {};
  const began = clock.now();
  const missed = new Promise<never>((_, reject) => {
    const look = (): void => {
      const silentMs = Math.round(opened.silentMs?.() ?? 0);
      const took = clock.now() - began;
      if (silentMs > 0 && replaceable()) reject(new HopFault(peer, "lost", `it has been silent for ${silentMs} ms`));
      else if (took >= ALONE_FACTOR * stallMs || (took >= stallMs && replaceable()))
        reject(new HopFault(peer, "stalled", `it has not answered for ${Math.round(took)} ms`));
      else cancel = clock.after(LOOK_MS, look);
    };
    cancel = clock.after(LOOK_MS, look);
    stopListening = loss.onLoss(reject);
  });
  try {
    return await Promise.race([work, missed]);
  } catch (error) {
    // By name: it has crossed a channel.
    if (error instanceof Error && ["PeerLostError", "DeviceLostError", "GpuError", "GpuOutOfMemoryError"].includes(error.name))
      throw new HopFault(peer, "lost", error.message, { cause: error });
    if (error instanceof Error && error.name === "ClusterError") throw new HopFault(peer, "lied", error.message, { cause: error });
    if (isLackOfRoom(error) && replaceable()) throw new HopFault(peer, "full", error.message, { cause: error });
    throw error;
  } finally {
    cancel();
    stopListening();
  }
}

/** Somebody else may have room. */
export function isLackOfRoom(error: unknown): error is Error {
  return (
    error instanceof Error &&
    error.name === "ModelError" &&
    "code" in error &&
    (error.code === "too-many-sequences" || error.code === "out-of-kv-blocks")
  );
}

/** A little above 0 by rounding. */
const MOST_LOGPROB = 1e-3;

function soundLogprobs({ logprob, top }: ChosenLogprobs, vocabSize: number): boolean {
  const isSound = (value: number): boolean => Number.isFinite(value) && value <= MOST_LOGPROB;
  return (
    isSound(logprob) && top.every((other) => isSound(other.logprob) && Number.isInteger(other.id) && other.id >= 0 && other.id < vocabSize)
  );
}

function finite(values: Float32Array): boolean {
  return values.every((value) => Number.isFinite(value));
}
