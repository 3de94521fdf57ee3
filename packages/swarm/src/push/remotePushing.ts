/** The client's side of pushing: what it says to a stage that pushes. */
import {
  type ActivationFormat,
  type Caller,
  type DraftedStep,
  type Drafting,
  batchBody,
  entryRows,
  outputOf,
  parsed,
  stageSchemas,
} from "@shoal/cluster";
import type { Batch } from "@shoal/model";
import type { z } from "zod";
import * as messages from "./messages.ts";

export interface PushedStep extends DraftedStep {
  /** SHA-256 of the input, where it was pushed. */
  readonly taken?: string;
  /** Whether what came out is on its way to the next stage. */
  readonly gave: boolean;
}

export interface PushRoute {
  readonly take?: number | undefined;
  readonly give?: number | undefined;
  /** Whether tokens are told with the step. */
  readonly told: boolean;
  readonly drafting?: Drafting | undefined;
}

export interface Pushing {
  /** Pushes come from this peer, under this key, from now on; those expected before do not. */
  expect(from: string, key: string): Promise<void>;
  /** Resolves when there is a link to that peer. @throws SwarmError */
  pushTo(peer: string, key: string): Promise<void>;
  /** @throws what the stage throws; SwarmError, by name, for an input that is none */
  step(batch: Batch, route: PushRoute): Promise<PushedStep>;
  /** Whether the input by this number has not come. */
  isWaiting(take: number): Promise<boolean>;
  /** The input, if it has not come. */
  supply(take: number, hidden: Float32Array<ArrayBuffer>): Promise<void>;
  /** A step whose input has not come is refused, and anything that comes for it later is dropped. */
  cancel(take: number): Promise<void>;
}

export function remotePushing(caller: Caller, hiddenSize: number, activations: ActivationFormat): Pushing {
  const call = async <Schema extends z.ZodType>(method: string, body: unknown, schema: Schema): Promise<z.infer<Schema>> =>
    parsed(schema, `${method} result`, await caller.call(messages.PUSH_TARGET, method, body));
  const { nothing } = stageSchemas;
  return {
    expect: async (from, key) => void (await call("expect", { from, key }, nothing)),
    pushTo: async (peer, key) => void (await call("pushTo", { peer, key }, nothing)),
    async step(batch, { take, give, told, drafting }) {
      const route = { told, take: take ?? null, give: give ?? null, ...(drafting && { drafting }) };
      const body = { ...batchBody(batch, activations), ...route };
      const { output, tokens = [], logprobs, drafts = [], taken, gave } = await call("step", body, messages.pushedStepResult);
      const rows = batch.entries.reduce((sum, entry) => sum + entryRows(entry), 0);
      return { output: outputOf(output, rows), tokens, ...(logprobs && { logprobs }), drafts, ...(taken !== undefined && { taken }), gave };
    },
    isWaiting: (take) => call("isWaiting", { take }, messages.waitingResult),
    supply: async (take, hidden) =>
      void (await call("supply", { take, hidden: messages.rowsTensor(hidden, hiddenSize, activations) }, nothing)),
    cancel: async (take) => void (await call("cancel", { take }, nothing)),
  };
}
