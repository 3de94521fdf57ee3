/**
 * Steps whose input comes from the stage before them, and whose output goes on to the stage after them, by lines that the stages have between them: whoever runs the pipeline asks all stages
 * for a step at once and has the tokens told, but is not waited for in between. The last stage hands its tokens to the first, so that a sequence's next step begins as soon as it can.
 *
 * What is handed over has numbers that rise. A step is begun when its number has come, and calls are begun in the order in which they were made, so whoever makes them asks all stages in the same order.
 */
import type { Batch, SequenceSlot, Stage } from "@shoal/model";
import { z } from "zod";
import { ClusterError, PeerLostError } from "../errors.ts";
import { parsed } from "../wire/calls.ts";
import type { FrameChannel } from "../wire/channel.ts";
import { type ErrorRecord, errorRecordSchema, errorToRecord, recordToError } from "../wire/errorRecord.ts";
import { decodeFrame, encodeFrame } from "../wire/frame.ts";
import { Tensor, expectTensor } from "../wire/tensor.ts";
import type { TellingStage, ToldStep } from "./toldStep.ts";

/** Inputs that may have come before their steps are asked for: as many as a channel may have calls under way. */
const MAX_EARLY = 1024;

/** A token that goes to the first stage. */
export interface HandedToken {
  /** On the stage that gets it. */
  readonly sequence: SequenceSlot;
  /** Among the tokens that the step tells of. */
  readonly place: number;
}

export interface Handing {
  /** By which number the hidden states of all rows come. */
  readonly take?: number;
  /** What must have come before `tokens: "sampled"` means anything: the last step that chose for one of the sequences. */
  readonly after?: number;
  /** By which number its hidden states go on, or, of a step that samples, these tokens. */
  readonly give?: { readonly number: number; readonly tokens?: readonly HandedToken[] };
}

/** A stage that others can be connected with. */
export interface HandingStage extends TellingStage {
  /** Of errors. */
  readonly peer: string;
  /** Waits for one connection. @param peer whose it will be @returns where @throws ClusterError named refused where there are no lines */
  listenFor(peer: string): Promise<string>;
  /** Its output goes there from now on. */
  handTo(address: string): Promise<void>;
  /** Ends both lines; steps that wait for their input fail. */
  unhand(): Promise<void>;
  /** @param batch for `sample` or `none`, or of a stage that hands hidden states on, `hidden`, which are not in its answer */
  forwardHanded(batch: Batch, handing: Handing): Promise<ToldStep>;
}

export function handsOn(stage: Stage): stage is HandingStage {
  return "forwardHanded" in stage;
}

/** How stages reach one another. */
export interface Lines {
  listen(): Promise<{ readonly address: string; readonly channel: Promise<FrameChannel>; readonly close: () => void }>;
  connect(address: string): Promise<FrameChannel>;
}

const number = z.int().min(0).max(Number.MAX_SAFE_INTEGER);
const id = z.int().min(0).max(0xffffffff);
const handSchema = z.strictObject({
  number,
  hidden: z.instanceof(Tensor).optional(),
  tokens: z
    .array(z.tuple([id, id]))
    .max(1024)
    .optional(),
  error: errorRecordSchema.optional(),
});

/** What goes over a line. */
export interface Hand {
  readonly number: number;
  /** [rows, hiddenSize] */
  readonly hidden?: Tensor;
  /** Pairs of a sequence and the token that was chosen for it. */
  readonly tokens?: readonly (readonly [number, number])[];
  /** Why nothing comes by this number, or after it. */
  readonly error?: ErrorRecord;
}

/** A stage's line to the one after it. What is handed to a line that has ended goes nowhere: whoever waits for it notices by itself. */
export class HandOutlet {
  readonly #channel: FrameChannel;
  #last: Promise<void> = Promise.resolve();

  constructor(channel: FrameChannel) {
    this.#channel = channel;
  }

  /** In the order of the calls. @returns when it is on its way */
  hand(number: number, what: Promise<Omit<Hand, "number">>): Promise<void> {
    const given = what.then(
      (hand): Hand => ({ ...hand, number }),
      (error: unknown): Hand => ({ error: errorToRecord(error), number }),
    );
    const before = this.#last;
    this.#last = given.then(async (hand) => {
      await before;
      this.#channel.send(encodeFrame({ kind: "call", call: 0, target: 0, method: "hand", body: hand }));
    });
    return this.#last;
  }

  close(): void {
    this.#channel.close("it is not needed any more");
  }
}

/** What came over a stage's line from the one before it. */
export class HandInlet {
  readonly #hidden = new Map<number, Tensor>();
  /** The last token of each sequence. */
  readonly #tokens = new Map<number, number>();
  readonly #peer: string;
  #come = -1;
  #failure: Error | undefined;
  #waiting: { readonly number: number; readonly settle: () => void } | undefined;
  #end: () => void = () => undefined;

  /** @param end what ends the way that the channel may still come by */
  constructor(peer: string, channel: Promise<FrameChannel>, end: () => void) {
    this.#peer = peer;
    this.#end = end;
    channel.then(
      (opened) => this.#attach(opened),
      (error: unknown) => this.#fail(new PeerLostError(peer, `its line was not opened: ${String(error)}`)),
    );
  }

  /** Resolves when what has this number has come. One waits at a time. @throws what ended the line */
  async until(number: number): Promise<void> {
    if (number > this.#come && !this.#failure)
      await new Promise<void>((resolve) => {
        this.#waiting = { number, settle: resolve };
      });
    // What came before the line ended is there.
    if (number > this.#come && this.#failure) throw this.#failure;
  }

  /** @throws ClusterError bad-frame for anything but so many rows */
  take(number: number, rows: number): Float32Array<ArrayBuffer> {
    const tensor = this.#hidden.get(number);
    this.#hidden.delete(number);
    if (!tensor) throw new ClusterError("bad-frame", `Cannot run a step: no hidden states came by ${number}`, { field: "hidden" });
    return expectTensor("hidden", tensor, "f32", [rows, -1]);
  }

  /** @throws ClusterError bad-frame where none came */
  token(sequence: number): number {
    const token = this.#tokens.get(sequence);
    if (token === undefined)
      throw new ClusterError("bad-frame", `Cannot run a step: no token came for sequence ${sequence}`, { field: "tokens" });
    return token;
  }

  close(): void {
    this.#fail(new PeerLostError(this.#peer, "its line was ended"));
  }

  #attach(channel: FrameChannel): void {
    this.#end = () => channel.close("it is not needed any more");
    if (this.#failure) return this.#end();
    channel.onFrame((frame) => {
      try {
        this.#arrived(parsed(handSchema, "hand", decodeFrame(frame).body) as Hand);
      } catch (error) {
        this.#fail(error instanceof Error ? error : new Error(String(error)));
      }
    });
    void channel.closed.then((reason) => this.#fail(new PeerLostError(this.#peer, reason)));
  }

  #arrived({ number, hidden, tokens = [], error }: Hand): void {
    if (this.#failure) return;
    if (error) return this.#fail(recordToError(error));
    if (number <= this.#come)
      throw new ClusterError("bad-frame", `Cannot take what was handed on: its number is ${number}, expected more than ${this.#come}`, {
        field: "number",
      });
    if (this.#hidden.size >= MAX_EARLY) throw new ClusterError("refused", `Cannot take what was handed on: ${MAX_EARLY} steps wait`);
    this.#come = number;
    if (hidden) this.#hidden.set(number, hidden);
    for (const [sequence, token] of tokens) this.#tokens.set(sequence, token);
    this.#settle();
  }

  #fail(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    this.#end();
    this.#settle();
  }

  #settle(): void {
    const waiting = this.#waiting;
    if (!waiting || (waiting.number > this.#come && !this.#failure)) return;
    this.#waiting = undefined;
    waiting.settle();
  }
}
