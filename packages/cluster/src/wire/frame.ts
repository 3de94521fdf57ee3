/**
 * One frame: a prelude of 24 bytes, a header in JSON, then the tensors that the header names, each from a multiple of 8 on. Little-endian, as every machine with WebGPU is.
 *
 *   0   "SHL" and the version, 1
 *   4   u8 kind: call, result, error, ping, pong; three zeros
 *   8   u32 call: chosen by the caller, repeated in the answer
 *   12  u32 target: which of the objects behind the channel
 *   16  u32 bytes of the header
 *   20  u32 zero
 *   24  header {method?, body, tensors: [dtype, ...shape][]}
 *
 * In the body {"$tensor": n} stands for a tensor, {"$bigint": "12"} for a bigint. Everything about a frame is checked before anything is allocated by what it says.
 */
import { ClusterError } from "../errors.ts";
import { type Frame, MAX_FRAME_BYTES } from "./channel.ts";
import { Tensor, WIRE_DTYPES, readTensor, wireBytes, writeTensor } from "./tensor.ts";

export const PROTOCOL_VERSION = 1;
/** A prompt's chunk of 4096 ids takes 28 KB. */
export const MAX_HEADER_BYTES = 4 * 2 ** 20;
export const MAX_TENSORS = 1024;
const MAX_RANK = 4;
const MAX_DEPTH = 12;
const PRELUDE_BYTES = 24;
const ALIGNMENT = 8;
const MAGIC = [0x53, 0x48, 0x4c, PROTOCOL_VERSION];
const KINDS = ["call", "result", "error", "ping", "pong"] as const;

export type FrameKind = (typeof KINDS)[number];

export interface Message {
  readonly kind: FrameKind;
  readonly call: number;
  readonly target: number;
  /** Of a call. */
  readonly method?: string;
  /** Plain data, with `Tensor`s and bigints in it. */
  readonly body: unknown;
}

/** One buffer that a channel may transfer. Tensors are copied into it, and nothing else is copied. @throws ClusterError bad-frame for a message beyond the limits */
export function encodeFrame({ kind, call, target, method, body }: Message): Frame {
  const tensors: Tensor[] = [];
  const replaced = JSON.stringify(body, (_, value: unknown): unknown => {
    if (value instanceof Tensor) return { $tensor: tensors.push(value) - 1 };
    return typeof value === "bigint" ? { $bigint: value.toString() } : value;
  });
  const listed = JSON.stringify(tensors.map(({ dtype, shape }) => [dtype, ...shape]));
  const named = method === undefined ? "" : `"method":${JSON.stringify(method)},`;
  const header = new TextEncoder().encode(`{${named}"body":${replaced ?? "null"},"tensors":${listed}}`);
  if (header.byteLength > MAX_HEADER_BYTES || tensors.length > MAX_TENSORS)
    throw bad("header", `${header.byteLength} bytes, ${tensors.length} tensors`, `at most ${MAX_HEADER_BYTES} and ${MAX_TENSORS}`);
  let bytes = aligned(PRELUDE_BYTES + header.byteLength);
  const offsets = tensors.map(({ dtype, shape }) => {
    const offset = bytes;
    bytes = aligned(bytes + wireBytes(dtype, shape));
    return offset;
  });
  if (bytes > MAX_FRAME_BYTES) throw bad("frame", `${bytes} bytes`, `at most ${MAX_FRAME_BYTES}`);
  const frame = new Uint8Array(bytes);
  frame.set(MAGIC);
  frame[4] = KINDS.indexOf(kind);
  const prelude = new DataView(frame.buffer);
  prelude.setUint32(8, call, true);
  prelude.setUint32(12, target, true);
  prelude.setUint32(16, header.byteLength, true);
  frame.set(header, PRELUDE_BYTES);
  for (const [index, tensor] of tensors.entries()) writeTensor(tensor, frame, offsets[index] ?? 0);
  return frame;
}

/** @throws ClusterError bad-frame, naming the field, for anything that `encodeFrame` would not write */
export function decodeFrame(given: Frame): Message {
  if (given.byteLength < PRELUDE_BYTES || given.byteLength > MAX_FRAME_BYTES)
    throw bad("frame", `${given.byteLength} bytes`, `${PRELUDE_BYTES} to ${MAX_FRAME_BYTES}`);
  // Views need their alignment; a channel that gives frames at odd places costs a copy.
  const frame = given.byteOffset % ALIGNMENT === 0 ? given : given.slice();
  if (MAGIC.some((byte, index) => index < 3 && frame[index] !== byte)) throw bad("frame", "not one of this protocol", "'SHL' first");
  if (frame[3] !== PROTOCOL_VERSION) throw bad("version", frame[3], PROTOCOL_VERSION);
  const kind = KINDS[frame[4] ?? KINDS.length];
  if (kind === undefined) throw bad("kind", frame[4], `0 to ${KINDS.length - 1}`);
  const prelude = new DataView(frame.buffer, frame.byteOffset);
  const call = prelude.getUint32(8, true);
  const target = prelude.getUint32(12, true);
  const headerBytes = prelude.getUint32(16, true);
  if (headerBytes > MAX_HEADER_BYTES || PRELUDE_BYTES + headerBytes > frame.byteLength)
    throw bad("header", `${headerBytes} bytes`, `at most ${Math.min(MAX_HEADER_BYTES, frame.byteLength - PRELUDE_BYTES)}`);
  const header = parseHeader(frame.subarray(PRELUDE_BYTES, PRELUDE_BYTES + headerBytes));
  const tensors = readTensors(header["tensors"], frame, aligned(PRELUDE_BYTES + headerBytes));
  const { method } = header as { readonly method?: unknown };
  if (method !== undefined && (typeof method !== "string" || method.length > 64)) throw bad("method", typeof method, "a short name");
  return { kind, call, target, ...(method !== undefined && { method }), body: revive(header["body"], tensors) };
}

/** Of a frame that may be anything: which call it belongs to and for whom it is; 0 and 0 for what is too short to say. */
export function frameAddress(frame: Frame): { readonly call: number; readonly target: number } {
  if (frame.byteLength < PRELUDE_BYTES) return { call: 0, target: 0 };
  const prelude = new DataView(frame.buffer, frame.byteOffset);
  return { call: prelude.getUint32(8, true), target: prelude.getUint32(12, true) };
}

function parseHeader(bytes: Uint8Array): Record<string, unknown> {
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new ClusterError("bad-frame", "Cannot read a frame: its header is no JSON", { cause: error, field: "header" });
  }
  if (typeof header !== "object" || header === null || Array.isArray(header)) throw bad("header", "no object", "an object");
  return header as Record<string, unknown>;
}

function readTensors(listed: unknown, frame: Frame, start: number): readonly Tensor[] {
  if (!Array.isArray(listed) || listed.length > MAX_TENSORS) throw bad("tensors", "no list", `a list of at most ${MAX_TENSORS}`);
  let offset = start;
  const tensors = listed.map((entry: unknown, index) => {
    const field = `tensors[${index}]`;
    if (!Array.isArray(entry) || entry.length > MAX_RANK + 1) throw bad(field, "no shape", `[dtype, at most ${MAX_RANK} sizes]`);
    const [named, ...shape] = entry as [unknown, ...number[]];
    const dtype = WIRE_DTYPES.find((known) => known === named);
    if (dtype === undefined) throw bad(field, String(named).slice(0, 20), WIRE_DTYPES.join(", "));
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) throw bad(field, "no shape", "sizes from 0");
    const bytes = wireBytes(dtype, shape);
    if (!(bytes <= frame.byteLength - offset)) throw bad(field, `${bytes} bytes`, `at most the ${frame.byteLength - offset} that are left`);
    const tensor = readTensor(dtype, shape, frame, offset);
    offset = aligned(offset + bytes);
    return tensor;
  });
  if (offset !== frame.byteLength) throw bad("frame", `${frame.byteLength} bytes`, `${offset}, as its header says`);
  return tensors;
}

/** Puts tensors and bigints back in their places. */
function revive(value: unknown, tensors: readonly Tensor[], depth = 0): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (depth > MAX_DEPTH) throw bad("body", "nested too deeply", `at most ${MAX_DEPTH} levels`);
  if (Array.isArray(value)) {
    // Ids of a prompt, for the most part: nothing to be found in them.
    return value.some((item) => typeof item === "object") ? value.map((item) => revive(item, tensors, depth + 1)) : value;
  }
  if ("$tensor" in value) {
    const tensor = tensors[Number(value.$tensor)];
    if (!tensor) throw bad("$tensor", String(value.$tensor).slice(0, 20), `0 to ${tensors.length - 1}`);
    return tensor;
  }
  if ("$bigint" in value) {
    if (typeof value.$bigint !== "string" || !/^-?\d{1,40}$/.test(value.$bigint)) throw bad("$bigint", "no number", "at most 40 digits");
    return BigInt(value.$bigint);
  }
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, revive(item, tensors, depth + 1)]));
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

function bad(field: string, actual: unknown, expected: unknown): ClusterError {
  return new ClusterError("bad-frame", `Cannot read a frame: ${field} is ${String(actual)}, expected ${String(expected)}`, { field });
}
