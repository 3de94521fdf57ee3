import { type KvFormat, fp8KvRow, kvRowBytes } from "@shoal/kernels";
import { expect, test } from "vitest";
import { flawOfKv } from "./kvRows.ts";
import type { KvSnapshot } from "./kvTransfer.ts";

const shape = { kvLoraRank: 136, qkRopeHeadDim: 6 };
const [tokens, layers] = [3, 2];
const expected = { shape, tokens, layers };

function snapshotOf(format: KvFormat, change: (rows: Uint8Array<ArrayBuffer>) => void = () => {}): KvSnapshot {
  const rowBytes = kvRowBytes(shape, format);
  const all = Array.from({ length: layers }, () => new Uint8Array(tokens * rowBytes));
  const last = all.at(-1);
  if (last) change(last);
  return { format, tokens, rowBytes, layers: all };
}

test.each(["f32", "f16", "fp8"] as const)("flawOfKv() finds nothing wrong with rows of zeros in %s", (format) => {
  expect(flawOfKv(snapshotOf(format), expected)).toBeUndefined();
});

test("flawOfKv() takes the largest values, and rows that begin at an odd place", () => {
  const floats = snapshotOf("f32", (rows) => new Float32Array(rows.buffer).fill(-65_504));
  expect(flawOfKv(floats, expected)).toBeUndefined();
  const odd = floats.layers.map((rows) => {
    const moved = new Uint8Array(rows.length + 1).subarray(1);
    moved.set(rows);
    return moved;
  });
  expect(flawOfKv({ ...floats, layers: odd }, expected)).toBeUndefined();
  const coded = snapshotOf("fp8", (rows) => {
    const { scales, keys } = fp8KvRow(shape);
    rows.fill(0x7e, 0, shape.kvLoraRank);
    new Float32Array(rows.buffer, scales, 2).fill(146);
    new Uint16Array(rows.buffer, keys, shape.qkRopeHeadDim).fill(0xc77f);
  });
  expect(flawOfKv(coded, expected)).toBeUndefined();
});

const row = fp8KvRow(shape);
const FLAWS: readonly (readonly [string, KvFormat, (rows: Uint8Array<ArrayBuffer>) => void])[] = [
  ["NaN in f32", "f32", (rows) => new Float32Array(rows.buffer).fill(Number.NaN, 7, 8)],
  ["what f16 could not hold, in f32", "f32", (rows) => new Float32Array(rows.buffer).fill(1e5, -1)],
  ["infinity in f16", "f16", (rows) => new Uint16Array(rows.buffer).fill(0xfc00, 11, 12)],
  ["NaN in f16", "f16", (rows) => new Uint16Array(rows.buffer).fill(0x7e01, 11, 12)],
  ["a code that is NaN", "fp8", (rows) => rows.fill(0xff, row.bytes + 5, row.bytes + 6)],
  ["a scale that is NaN", "fp8", (rows) => new Float32Array(rows.buffer, row.scales, 2).fill(Number.NaN, 1)],
  ["a scale that is too large", "fp8", (rows) => new Float32Array(rows.buffer, row.scales, 2).fill(147, 0, 1)],
  ["a key that is infinite", "fp8", (rows) => new Uint16Array(rows.buffer, 2 * row.bytes + row.keys, 6).fill(0x7f80, 5)],
  ["a key that is too large", "fp8", (rows) => new Uint16Array(rows.buffer, row.keys, 6).fill(0xc780, 0, 1)],
];

test.each(FLAWS)("flawOfKv() finds %s", (_, format, change) => {
  expect(flawOfKv(snapshotOf(format, change), expected)).toMatch(/layer 1 has values/);
});

test("flawOfKv() finds sizes that are not the expected ones", () => {
  const sound = snapshotOf("f16");
  expect(flawOfKv(sound, { ...expected, tokens: 4 })).toMatch(/3 positions, expected 4/);
  expect(flawOfKv(sound, { ...expected, layers: 3 })).toMatch(/2 layers, expected 3/);
  expect(flawOfKv({ ...sound, rowBytes: sound.rowBytes + 16 }, expected)).toMatch(/rows have/);
  expect(flawOfKv({ ...sound, layers: sound.layers.map((rows) => rows.subarray(1)) }, expected)).toMatch(/layer 0 has/);
});
