/**
 * Pushing, as it goes over channels. A client says beforehand which peer pushes to which, under a key that it made up; it then gives a step to all the stages of a path at once, each with
 * the number by which its input comes, and the number by which its output goes on. So each stage takes orders from its client alone, who knows what the sequences are called there, and what
 * two peers say to one another is hidden states and nothing else.
 */
import { bytesToHex } from "@noble/hashes/utils.js";
import {
  type ActivationFormat,
  type Frame,
  type Message,
  Tensor,
  decodeFrame,
  encodeFrame,
  expectTensor,
  parsed,
  stageSchemas,
} from "@shoal/cluster";
import { z } from "zod";

/** Calls for whoever pushes, on a channel whose target 0 is the stage itself. */
export const PUSH_TARGET = 1;

const number = z.int().min(0).max(0xffffffff);
const key = z.uuid();
const tensor = z.instanceof(Tensor);
/** Whoever it is, a link to it proves. */
const peer = z.string().min(1).max(64);

export const expectCall = z.strictObject({ from: peer, key });
export const pushToCall = z.strictObject({ peer, key });
export const takeCall = z.strictObject({ take: number });
export const supplyCall = z.strictObject({ take: number, hidden: tensor });
export const pushedStepCall = stageSchemas.stepCall.extend({
  /** Whether its tokens are told at once. */
  told: z.boolean(),
  /** Of a told step: what is drafted after it. */
  drafting: stageSchemas.drafting.optional(),
  /** The number by which its input comes, or null where it is in the call. */
  take: number.nullable(),
  /** The number by which its hidden states go on, or null where they are for the client alone. */
  give: number.nullable(),
});
export const pushedStepResult = stageSchemas.toldStep.extend({
  tokens: stageSchemas.toldStep.shape.tokens.optional(),
  drafts: stageSchemas.drafts.optional(),
  /** SHA-256 of the f32 values that came by the number. */
  taken: z
    .string()
    .regex(/^[0-9a-f]{64}$/)
    .optional(),
  /** Whether its hidden states are on their way to the next. */
  gave: z.boolean(),
});
export const waitingResult = z.boolean();

const pushSchema = z.strictObject({ key, number, hidden: tensor });

export interface Push {
  readonly key: string;
  readonly number: number;
  /** [rows, hiddenSize] */
  readonly hidden: Tensor;
}

export function encodePush(push: Push): Frame {
  return encodeFrame({ kind: "call", call: 0, target: PUSH_TARGET, method: "push", body: push });
}

/** @throws ClusterError bad-frame */
export function decodePush(frame: Frame): Push {
  return parsed(pushSchema, "push", decodeFrame(frame).body);
}

/** Bytes of a push of so many rows, whatever else is in it. */
export function maxPushBytes(rows: number, hiddenSize: number): number {
  return rows * hiddenSize * Float32Array.BYTES_PER_ELEMENT + 4096;
}

export function rowsTensor(hidden: Float32Array<ArrayBuffer>, hiddenSize: number, format: ActivationFormat): Tensor {
  return new Tensor(hidden, [hidden.length / hiddenSize, hiddenSize], format);
}

/** @throws ClusterError bad-frame for what is not [rows, hiddenSize] numbers */
export function rowsOf(hidden: Tensor, hiddenSize: number): Float32Array<ArrayBuffer> {
  return expectTensor("hidden", hidden, "f32", [-1, hiddenSize]);
}

export async function digestOf(values: Float32Array<ArrayBuffer>): Promise<string> {
  return bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", values)));
}

export function resultFrame({ call, target }: Message, body: unknown): Frame {
  return encodeFrame({ kind: "result", call, target, body });
}
