/** Whether KV rows that come from somebody else are such rows: of these sizes, and all of them numbers that a cache can hold. */
import { type KvRowShape, fp8KvRow, kvRowBytes } from "@shoal/kernels";
import type { KvSnapshot } from "./kvTransfer.ts";

/** What f16 holds. Latents are normed and keys are their rotated neighbours: a cache in another format holds nothing larger that means anything. */
const LARGEST = 65_504;
const E4M3_LARGEST = 448;
/** 65280, the largest bf16 below that. */
const BF16_LARGEST = 0x477f;

export interface ExpectedRows {
  readonly shape: KvRowShape;
  readonly tokens: number;
  readonly layers: number;
}

/** @returns the first thing that is wrong with a snapshot, for a message, or undefined */
export function flawOfKv({ format, tokens, rowBytes, layers }: KvSnapshot, expected: ExpectedRows): string | undefined {
  const bytes = kvRowBytes(expected.shape, format);
  if (tokens !== expected.tokens) return `it has ${tokens} positions, expected ${expected.tokens}`;
  if (rowBytes !== bytes) return `its rows have ${rowBytes} bytes, expected ${bytes} in ${format}`;
  if (layers.length !== expected.layers) return `it has ${layers.length} layers, expected ${expected.layers}`;
  const isSound = { f32: soundF32, f16: soundF16, fp8: (rows: Uint8Array<ArrayBuffer>) => soundFp8(rows, expected.shape) }[format];
  for (const [layer, rows] of layers.entries()) {
    if (rows.byteLength !== tokens * bytes) return `layer ${layer} has ${rows.byteLength} bytes, expected ${tokens * bytes}`;
    if (!isSound(rows)) return `layer ${layer} has values that are no numbers, or above ${LARGEST}`;
  }
  return undefined;
}

function soundF32(rows: Uint8Array<ArrayBuffer>): boolean {
  const { buffer, byteOffset } = aligned(rows);
  return new Float32Array(buffer, byteOffset, rows.byteLength / 4).every((value) => Math.abs(value) <= LARGEST);
}

/** Infinities and NaN have all bits of the exponent. */
function soundF16(rows: Uint8Array<ArrayBuffer>): boolean {
  const { buffer, byteOffset } = aligned(rows);
  return new Uint16Array(buffer, byteOffset, rows.byteLength / 2).every((half) => (half & 0x7c00) !== 0x7c00);
}

function soundFp8(rows: Uint8Array<ArrayBuffer>, { kvLoraRank, qkRopeHeadDim }: KvRowShape): boolean {
  const row = fp8KvRow({ kvLoraRank, qkRopeHeadDim });
  const { buffer, byteOffset } = aligned(rows);
  for (let at = 0; at < rows.byteLength; at += row.bytes) {
    const codes = new Uint8Array(buffer, byteOffset + at, kvLoraRank);
    if (codes.some((code) => (code & 0x7f) === 0x7f)) return false;
    const scales = new Float32Array(buffer, byteOffset + at + row.scales, (row.keys - row.scales) / 4);
    if (!scales.every((scale) => Math.abs(scale) * E4M3_LARGEST <= LARGEST)) return false;
    const keys = new Uint16Array(buffer, byteOffset + at + row.keys, qkRopeHeadDim);
    // Without their signs they are in the order of their bits.
    if (!keys.every((key) => (key & 0x7fff) <= BF16_LARGEST)) return false;
  }
  return true;
}

/** From a multiple of 4 of its buffer on, as views need it. */
function aligned(rows: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  return rows.byteOffset % 4 === 0 ? rows : rows.slice();
}
