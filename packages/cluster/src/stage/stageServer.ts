/**
 * Answers the frames of one client by calling a stage. Several clients may share a stage, each over a channel of its own: a client has its own step numbers, touches only the
 * sequences and KV blocks that it opened or retained, and whatever it left open is closed when its channel ends. Steps may come by a line from another stage (handedSteps.ts): what is
 * asked for after one waits until it has begun.
 */
import { type KvBlock, ModelError, type SequenceSlot, type Stage } from "@shoal/model";
import type { z } from "zod";
import { ClusterError } from "../errors.ts";
import { type Dispatch, answerCalls, parsed } from "../wire/calls.ts";
import type { FrameChannel } from "../wire/channel.ts";
import { HandedSteps, type ToldBody } from "./handedSteps.ts";
import type { Lines } from "./handing.ts";
import { type StepBody, batchOf, entryRows, outputBody, samplingOf, snapshotBody, snapshotOf } from "./messages.ts";
import * as schemas from "./schemas.ts";
import { KEPT_STEPS, StepNumbers, type StepRun } from "./stepNumbers.ts";
import { draftsAtOnce } from "./toldStep.ts";
import { Turnstile } from "./turnstile.ts";

type StepCall = ReturnType<typeof parsed<typeof schemas.stepCall>>;

export interface StageServerOptions {
  /** Whether a client's `destroy` destroys the stage, or only ends the client's own use of it; true by default. */
  readonly ownsStage?: boolean;
  /** How it reaches other stages; without them it hands nothing on. */
  readonly lines?: Lines;
}

/**
 * Serves a stage over a channel of its own.
 * @returns when the client has gone and nothing of it is open any more: until then its sequences count among the stage's
 */
export async function serveStage(channel: FrameChannel, stage: Stage, options: StageServerOptions = {}): Promise<void> {
  const server = new StageServer(stage, options);
  answerCalls(channel, server.dispatch);
  await channel.closed;
  await server.end();
}

/** One client's use of a stage. */
export class StageServer {
  readonly #stage: Stage;
  readonly #ownsStage: boolean;
  readonly #sequences = new Set<SequenceSlot>();
  readonly #opening = new Set<Promise<SequenceSlot>>();
  /** How often this client holds each block. */
  readonly #holds = new Map<KvBlock, number>();
  readonly #steps = new StepNumbers();
  readonly #turns = new Turnstile();
  readonly #handed: HandedSteps;
  #vocabSize: Promise<number> | undefined;
  #ended = false;

  constructor(stage: Stage, { ownsStage = true, lines }: StageServerOptions = {}) {
    this.#stage = stage;
    this.#ownsStage = ownsStage;
    this.#handed = new HandedSteps(lines);
  }

  /** The stage gets calls in the order of their frames: a call's work begins before this returns, or when a step that waits for its input has begun. */
  readonly dispatch: Dispatch = (_target, method, body) => {
    switch (method) {
      // What needs no turn, because it changes nothing, or must not wait.
      case "describe":
        return this.#stage.describe();
      case "sampled":
      case "drafted":
      case "logprobs": {
        const { first, count } = parsed(schemas.readCall, method, body);
        return this.#read(method, first, count);
      }
      case "listenFor":
        return this.#handed.listenFor(parsed(schemas.listenCall, method, body).peer);
      case "handTo":
        return this.#handed.handTo(parsed(schemas.handToCall, method, body).address);
      case "unhand":
        return this.#handed.end();
      case "destroy":
        return this.#destroy();
      case "forwardHanded":
        return this.#stepHanded(parsed(schemas.handedStepCall, method, body));
      default:
        return this.#turns.run(() => this.#dispatch(method, body));
    }
  };

  #dispatch(method: string, body: unknown): unknown {
    switch (method) {
      case "open":
        return this.#open(parsed(schemas.openCall, method, body).prefix as readonly number[] as readonly KvBlock[]);
      case "retain":
        return this.#retain(parsed(schemas.retainCall, method, body));
      case "release":
        return this.#release(parsed(schemas.releaseCall, method, body).blocks as readonly number[] as readonly KvBlock[]);
      case "exportKv": {
        const { sequence, range } = parsed(schemas.exportKvCall, method, body);
        return this.#stage.exportKv(this.#own(sequence), range).then(snapshotBody);
      }
      case "importKv": {
        const { onto, ...snapshot } = parsed(schemas.importKvCall, method, body);
        if (onto !== undefined) return this.#stage.importKv(snapshotOf(snapshot), this.#own(onto));
        return this.#opened(this.#stage.importKv(snapshotOf(snapshot)));
      }
      case "truncate": {
        const { sequence, length } = parsed(schemas.truncateCall, method, body);
        return this.#stage.truncate(this.#own(sequence), length);
      }
      case "close":
        return this.#close(this.#own(parsed(schemas.slotOnly, method, body).sequence));
      case "setSampling": {
        const { sequence, parameters, history } = parsed(schemas.samplingCall, method, body);
        return this.#stage.setSampling(this.#own(sequence), samplingOf(parameters), history);
      }
      case "forward":
      case "draft":
        return this.#step(method, parsed(schemas.stepCall, method, body)).then(({ output }) => output);
      case "forwardTold":
        return this.#stepAndTell(parsed(schemas.stepCall, method, body));
      case "forwardDrafted":
        return this.#stepAndDraft(parsed(schemas.draftedStepCall, method, body));
      default:
        throw new ClusterError("refused", `Cannot call '${method}': a stage has no such method`);
    }
  }

  /** Closes what the client left open. */
  async end(): Promise<void> {
    this.#ended = true;
    this.#handed.end();
    const sequences = [...this.#sequences];
    this.#sequences.clear();
    const holds = [...this.#holds];
    this.#holds.clear();
    // A stage whose device is gone has nothing left to close.
    await Promise.allSettled([...this.#opening, ...sequences.map((sequence) => this.#stage.close(sequence))]);
    const most = Math.max(0, ...holds.map(([, count]) => count));
    for (let round = 0; round < most; round++) {
      const blocks = holds.flatMap(([block, count]) => (count > round ? [block] : []));
      await this.#stage.release(blocks).catch(() => undefined);
    }
  }

  #own(sequence: number): SequenceSlot {
    const slot = sequence as SequenceSlot;
    if (!this.#sequences.has(slot)) throw new ModelError("unknown-sequence", `Cannot use sequence ${sequence}: it is not open`);
    return slot;
  }

  #checkHeld(blocks: readonly KvBlock[]): void {
    const foreign = blocks.find((block) => !this.#holds.has(block));
    if (foreign !== undefined) throw new ModelError("bad-batch", `Cannot use KV block ${foreign}: nobody holds it`);
  }

  #open(prefix: readonly KvBlock[]): Promise<SequenceSlot> {
    this.#checkHeld(prefix);
    return this.#opened(this.#stage.open(prefix));
  }

  #opened(opening: Promise<SequenceSlot>): Promise<SequenceSlot> {
    const opened = this.#keep(opening);
    this.#opening.add(opened);
    const done = (): void => void this.#opening.delete(opened);
    opened.then(done, done);
    return opened;
  }

  async #keep(opening: Promise<SequenceSlot>): Promise<SequenceSlot> {
    const sequence = await opening;
    if (this.#ended) {
      await this.#stage.close(sequence);
      throw new ClusterError("refused", "Cannot open a sequence: its client has gone");
    }
    this.#sequences.add(sequence);
    return sequence;
  }

  async #close(sequence: SequenceSlot): Promise<void> {
    this.#sequences.delete(sequence);
    try {
      await this.#stage.close(sequence);
    } catch (error) {
      this.#sequences.add(sequence);
      throw error;
    }
  }

  async #retain({ sequence, first, count }: { sequence: number; first: number; count: number }): Promise<readonly KvBlock[]> {
    const blocks = await this.#stage.retain(this.#own(sequence), first, count);
    if (this.#ended) {
      await this.#stage.release(blocks);
      throw new ClusterError("refused", "Cannot retain KV blocks: their client has gone");
    }
    for (const block of blocks) this.#holds.set(block, (this.#holds.get(block) ?? 0) + 1);
    return blocks;
  }

  async #release(blocks: readonly KvBlock[]): Promise<void> {
    this.#checkHeld(blocks);
    // Before it is done: a client that goes meanwhile must not have them released twice. The stage refuses a block named twice before anything has changed.
    if (new Set(blocks).size === blocks.length) this.#countReleased(blocks);
    await this.#stage.release(blocks);
  }

  #countReleased(blocks: readonly KvBlock[]): void {
    for (const block of blocks) {
      const left = (this.#holds.get(block) ?? 0) - 1;
      if (left > 0) this.#holds.set(block, left);
      else this.#holds.delete(block);
    }
  }

  async #destroy(): Promise<void> {
    this.#handed.end();
    await (this.#ownsStage ? this.#stage.destroy() : this.end());
  }

  async #stepAndTell(call: StepCall): Promise<ToldBody> {
    const { step, output } = await this.#step("forward", call);
    const [[tokens], [logprobs]] = await Promise.all([
      this.#read("sampled", step, 1),
      call.batch.logprobs === true ? this.#read("logprobs", step, 1) : [],
    ]);
    return { output, tokens: tokens as readonly number[], ...(logprobs !== undefined && { logprobs }) };
  }

  /** A step whose input comes by a line, or whose output goes on by one. */
  #stepHanded({ batch, activations, handing }: z.infer<typeof schemas.handedStepCall>): Promise<ToldBody> {
    const run = async (): Promise<ToldBody> => {
      const call = { batch: this.#handed.filled(batch, handing), activations };
      if (batch.output === "sample") return this.#stepAndTell(call);
      return { output: (await this.#step("forward", call)).output, tokens: [] };
    };
    const input = this.#handed.input(handing);
    return this.#handed.passOn(
      // Begins at once where nothing is to be waited for.
      (async () => this.#turns.run(run, input))(),
      handing,
    );
  }

  async #stepAndDraft({ batch: given, activations, drafting }: z.infer<typeof schemas.draftedStepCall>): Promise<unknown> {
    const stage = this.#stage;
    const batch = batchOf(given);
    for (const { sequence } of batch.entries) this.#own(sequence);
    if (!draftsAtOnce(stage)) throw new ModelError("unsupported", "Cannot draft at once: this stage is not shared");
    const step = this.#steps.next();
    const running = stage.forwardDrafted(batch, drafting);
    this.#vocabSize ??= stage.describe().then(({ vocabSize }) => vocabSize);
    const { output, ...told } = await running;
    this.#steps.note(step, output.step);
    const rows = batch.entries.reduce((sum, entry) => sum + entryRows(entry), 0);
    return { ...told, output: outputBody({ ...output, step }, rows, await this.#vocabSize, activations) };
  }

  async #step(method: "forward" | "draft", call: StepCall): Promise<{ readonly step: number; readonly output: StepBody }> {
    const batch = batchOf(call.batch);
    for (const { sequence } of batch.entries) this.#own(sequence);
    // Further drafts are steps too.
    const count = method === "draft" ? (batch.drafts ?? 1) : 1;
    const step = this.#steps.next(count);
    const running = this.#stage[method](batch);
    this.#vocabSize ??= this.#stage.describe().then(({ vocabSize }) => vocabSize);
    const output = await running;
    for (let i = 0; i < count; i++) this.#steps.note(step + i, output.step + i);
    const rows = batch.entries.reduce((sum, entry) => sum + entryRows(entry), 0);
    return { step, output: outputBody({ ...output, step }, rows, await this.#vocabSize, call.activations) };
  }

  async #read(method: "sampled" | "drafted" | "logprobs", first: number, count: number): Promise<readonly unknown[]> {
    const runs = this.#steps.runs(first, count);
    if (!runs)
      throw new ModelError("bad-batch", `Cannot read the tokens of step ${first}: it is not there, or more than ${KEPT_STEPS} steps ago`);
    const read = (run: StepRun): Promise<readonly unknown[]> => this.#stage[method](run.first, run.count);
    return (await Promise.all(runs.map(read))).flat();
  }
}
