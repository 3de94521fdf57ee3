/** A stage at the other end of a channel. */
import type {
  Batch,
  ChosenLogprobs,
  KvBlock,
  KvRange,
  KvSnapshot,
  SamplingParameters,
  SequenceSlot,
  StageDescription,
  StepOutput,
  TokenHistory,
} from "@shoal/model";
import type { z } from "zod";
import { Caller, type CallerOptions, type Traffic, parsed } from "../wire/calls.ts";
import type { FrameChannel } from "../wire/channel.ts";
import type { ActivationFormat } from "../wire/tensor.ts";
import { batchBody, entryRows, outputOf, samplingBody, snapshotBody, snapshotOf } from "./messages.ts";
import * as schemas from "./schemas.ts";
import type { Handing, HandingStage } from "./handing.ts";
import type { DraftedStep, Drafting, ToldStep } from "./toldStep.ts";

export interface RemoteStageOptions extends CallerOptions {
  /** How hidden states travel, both ways; f32 by default. Logits and captures are always f32. */
  readonly activations?: ActivationFormat;
}

/** Where to find a stage behind a caller that several objects share. */
export interface RemoteTarget {
  readonly caller: Caller;
  readonly target: number;
}

/** The stage that `serveStage` serves at the other end. */
export function remoteStage(channel: FrameChannel, options: RemoteStageOptions): RemoteStage {
  return new RemoteStage({ caller: new Caller(channel, options), target: 0 }, options, true);
}

/** Calls reject with PeerLostError once the other side is gone, and otherwise as the stage there does: errors keep name, message and code. */
export class RemoteStage implements HandingStage {
  readonly #caller: Caller;
  readonly #target: number;
  readonly #activations: ActivationFormat;
  readonly #ownsChannel: boolean;

  /** @param ownsChannel whether the channel ends with the stage */
  constructor(
    { caller, target }: RemoteTarget,
    { activations = "f32" }: Pick<RemoteStageOptions, "activations"> = {},
    ownsChannel = false,
  ) {
    this.#caller = caller;
    this.#target = target;
    this.#activations = activations;
    this.#ownsChannel = ownsChannel;
  }

  get traffic(): Readonly<Traffic> {
    return this.#caller.traffic;
  }

  get peer(): string {
    return this.#caller.peer;
  }

  /** Resolves when the other side is gone. */
  get lost(): Promise<Error> {
    return this.#caller.lost;
  }

  async describe(): Promise<StageDescription> {
    return this.#call("describe", null, schemas.stageDescription);
  }

  async open(prefix: readonly KvBlock[] = []): Promise<SequenceSlot> {
    return (await this.#call("open", { prefix }, schemas.slotResult)) as SequenceSlot;
  }

  async retain(sequence: SequenceSlot, first: number, count: number): Promise<readonly KvBlock[]> {
    return (await this.#call("retain", { sequence, first, count }, schemas.blocksResult)) as KvBlock[];
  }

  async release(blocks: readonly KvBlock[]): Promise<void> {
    await this.#call("release", { blocks }, schemas.nothing);
  }

  async exportKv(sequence: SequenceSlot, range?: KvRange): Promise<KvSnapshot> {
    return snapshotOf(await this.#call("exportKv", { sequence, ...(range && { range }) }, schemas.kvSnapshot));
  }

  async importKv(snapshot: KvSnapshot, onto?: SequenceSlot): Promise<SequenceSlot> {
    const body = { ...snapshotBody(snapshot), ...(onto !== undefined && { onto }) };
    return (await this.#call("importKv", body, schemas.slotResult)) as SequenceSlot;
  }

  async truncate(sequence: SequenceSlot, length: number): Promise<void> {
    await this.#call("truncate", { sequence, length }, schemas.nothing);
  }

  async close(sequence: SequenceSlot): Promise<void> {
    await this.#call("close", { sequence }, schemas.nothing);
  }

  async setSampling(sequence: SequenceSlot, parameters: SamplingParameters, history?: TokenHistory): Promise<void> {
    await this.#call("setSampling", { sequence, parameters: samplingBody(parameters), ...(history && { history }) }, schemas.nothing);
  }

  forward(batch: Batch): Promise<StepOutput> {
    return this.#step("forward", batch);
  }

  /** `forward`, `sampled` and `logprobs` of one step by one message each way: over a distance each is a round trip. */
  async forwardTold(batch: Batch): Promise<ToldStep> {
    const { output, tokens, logprobs } = await this.#call("forwardTold", batchBody(batch, this.#activations), schemas.toldStep);
    return { output: outputOf(output, rowsOf(batch)), tokens, ...(logprobs && { logprobs }) };
  }

  async forwardHanded(batch: Batch, handing: Handing): Promise<ToldStep> {
    const body = { ...batchBody(batch, this.#activations), handing };
    const { output, tokens, logprobs } = await this.#call("forwardHanded", body, schemas.toldStep);
    return { output: outputOf(output, rowsOf(batch)), tokens, ...(logprobs && { logprobs }) };
  }

  listenFor(peer: string): Promise<string> {
    return this.#call("listenFor", { peer }, schemas.addressResult);
  }

  async handTo(address: string): Promise<void> {
    await this.#call("handTo", { address }, schemas.nothing);
  }

  async unhand(): Promise<void> {
    await this.#call("unhand", null, schemas.nothing);
  }

  /** Of a stage that drafts at once. */
  async forwardDrafted(batch: Batch, drafting: Drafting): Promise<DraftedStep> {
    const body = { ...batchBody(batch, this.#activations), drafting };
    const { output, tokens, logprobs, drafts } = await this.#call("forwardDrafted", body, schemas.draftedStep);
    return { output: outputOf(output, rowsOf(batch)), tokens, ...(logprobs && { logprobs }), drafts };
  }

  draft(batch: Batch): Promise<StepOutput> {
    return this.#step("draft", batch);
  }

  async sampled(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#call("sampled", { first, count }, schemas.tokensResult);
  }

  async drafted(first: number, count: number): Promise<readonly (readonly number[])[]> {
    return this.#call("drafted", { first, count }, schemas.tokensResult);
  }

  async logprobs(first: number, count: number): Promise<readonly (readonly ChosenLogprobs[])[]> {
    return this.#call("logprobs", { first, count }, schemas.logprobsResult);
  }

  async destroy(): Promise<void> {
    try {
      await this.#call("destroy", null, schemas.nothing);
    } finally {
      if (this.#ownsChannel) this.#caller.close();
    }
  }

  async #step(method: "forward" | "draft", batch: Batch): Promise<StepOutput> {
    return outputOf(await this.#call(method, batchBody(batch, this.#activations), schemas.stepOutput), rowsOf(batch));
  }

  async #call<Schema extends z.ZodType>(method: string, body: unknown, schema: Schema): Promise<z.infer<Schema>> {
    return parsed(schema, `${method} result`, await this.#caller.call(this.#target, method, body));
  }
}

function rowsOf({ entries }: Batch): number {
  return entries.reduce((sum, entry) => sum + entryRows(entry), 0);
}
