import { describe, expect, it } from "vitest";

import { file, random, rawFile, type RawEntry } from "../test/build.ts";
import { SafetensorsError, type SafetensorsErrorCode } from "./error.ts";
import { MAX_HEADER_BYTES } from "./header.ts";
import { openSafetensors } from "./reader.ts";
import { bytesSource } from "./source.ts";

const open = (bytes: Uint8Array) => openSafetensors(bytesSource(bytes, "x.safetensors"));

async function failure(bytes: Uint8Array): Promise<SafetensorsError> {
  const error: unknown = await open(bytes).then(
    () => null,
    (reason: unknown) => reason,
  );
  if (!(error instanceof SafetensorsError)) throw new Error(`expected a SafetensorsError, got ${String(error)}`);
  return error;
}

const u8 = (begin: number, end: number): RawEntry => ({ dtype: "U8", shape: [end - begin], data_offsets: [begin, end] });
const one = (entry: unknown, dataBytes = 4) => rawFile(JSON.stringify({ a: entry }), dataBytes);

const BAD: readonly (readonly [string, SafetensorsErrorCode, Uint8Array, RegExp])[] = [
  ["an empty file", "too-short", new Uint8Array(0), /has 0 bytes, expected at least 8/],
  ["7 bytes", "too-short", new Uint8Array(7), /has 7 bytes/],
  [
    "a header length of 2^63",
    "header-length",
    rawFile("{}", 0, 2n ** 63n),
    /header length is 9223372036854775808, expected at most 100000000/,
  ],
  ["a header length of 2^64 - 1", "header-length", rawFile("{}", 0, 2n ** 64n - 1n), /18446744073709551615/],
  [
    "a header length of the cap plus 1",
    "header-length",
    rawFile("{}", 0, BigInt(MAX_HEADER_BYTES) + 1n),
    /is 100000001, expected at most 100000000/,
  ],
  ["a header longer than the file", "header-length", rawFile("{}", 0, 3n), /is 3, expected at most the 2 bytes that follow/],
  ["a header at the cap in a short file", "header-length", rawFile("{}", 0, BigInt(MAX_HEADER_BYTES)), /truncated/],
  ["a header of no bytes", "header-length", rawFile(""), /is 0, expected at least 2/],
  ["a header of one byte", "header-length", rawFile("{"), /is 1, expected at least 2/],
  ["a header that starts with a space", "header-start", rawFile(" {}"), /starts with byte 0x20, expected '{'/],
  ["a header that starts with a byte-order mark", "header-start", rawFile("\ufeff{}"), /0xef/],
  ["a header that is an array", "header-start", rawFile("[]"), /0x5b/],
  ["a header that is not UTF-8", "header-utf8", rawFile(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d)), /is not UTF-8/],
  ["a header that is not JSON", "header-json", rawFile("{not json}"), /is not JSON/],
  ["a header cut short", "header-json", rawFile('{"a":{"dtype":"U8"'), /is not JSON/],
  ["two JSON values", "header-json", rawFile("{}{}"), /is not JSON/],
  ["deep nesting", "header-json", rawFile(`{"a":${"[".repeat(100)}${"]".repeat(100)}}`), /nested deeper than 16/],
  ["a name twice", "duplicate-name", rawFile(`{"a":${JSON.stringify(u8(0, 2))},"a":${JSON.stringify(u8(2, 4))}}`, 4), /names 'a' twice/],
  [
    "a name twice, once escaped",
    "duplicate-name",
    rawFile(`{"a":${JSON.stringify(u8(0, 2))},"\\u0061":${JSON.stringify(u8(2, 4))}}`, 4),
    /names 'a' twice/,
  ],
  ["a field twice", "duplicate-name", rawFile('{"a":{"dtype":"U8","dtype":"I8","shape":[4],"data_offsets":[0,4]}}', 4), /'dtype' twice/],
  ["metadata twice", "duplicate-name", rawFile('{"__metadata__":{},"__metadata__":{}}'), /'__metadata__' twice/],
  ["metadata that is a list", "metadata", rawFile('{"__metadata__":[]}'), /__metadata__ is \[\], expected an object of strings/],
  ["metadata with a number", "metadata", rawFile('{"__metadata__":{"n":1}}'), /__metadata__\.n is 1, expected a string/],
  ["a tensor that is null", "tensor-entry", one(null), /tensor 'a' is null/],
  ["a tensor that is a list", "tensor-entry", one([]), /tensor 'a' is \[\]/],
  [
    "a name with half a surrogate pair",
    "tensor-entry",
    rawFile('{"\\ud800":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}', 4),
    /not Unicode/,
  ],
  ["no dtype", "dtype", one({ shape: [4], data_offsets: [0, 4] }), /dtype is undefined/],
  ["an unknown dtype", "dtype", one({ dtype: "F4", shape: [4], data_offsets: [0, 4] }), /dtype is 'F4', expected one of BOOL/],
  ["a dtype in lower case", "dtype", one({ dtype: "f32", shape: [1], data_offsets: [0, 4] }), /'f32'/],
  ["a dtype that every object has", "dtype", one({ dtype: "toString", shape: [4], data_offsets: [0, 4] }), /'toString'/],
  ["a shape that is a number", "shape", one({ dtype: "U8", shape: 4, data_offsets: [0, 4] }), /shape is 4/],
  ["a negative dimension", "shape", one({ dtype: "U8", shape: [-4], data_offsets: [0, 4] }), /shape is \[-4\]/],
  ["a dimension of minus zero", "shape", rawFile('{"a":{"dtype":"U8","shape":[-0],"data_offsets":[0,0]}}'), /shape/],
  ["half a dimension", "shape", one({ dtype: "U8", shape: [1.5], data_offsets: [0, 4] }), /shape is \[1.5\]/],
  ["a dimension of 2^53", "shape", one({ dtype: "U8", shape: [2 ** 53], data_offsets: [0, 4] }), /shape/],
  [
    "a shape whose product overflows",
    "shape",
    one({ dtype: "F32", shape: [2 ** 40, 2 ** 40], data_offsets: [0, 4] }),
    /fewer than 2\^53 bytes/,
  ],
  ["no offsets", "offsets", one({ dtype: "U8", shape: [4] }), /data_offsets is undefined/],
  ["three offsets", "offsets", one({ dtype: "U8", shape: [4], data_offsets: [0, 4, 8] }), /data_offsets is \[0,4,8\]/],
  ["offsets as text", "offsets", one({ dtype: "U8", shape: [4], data_offsets: ["0", "4"] }), /data_offsets/],
  ["a negative offset", "offsets", one({ dtype: "U8", shape: [4], data_offsets: [-4, 0] }), /data_offsets/],
  ["offsets the wrong way round", "offsets", one({ dtype: "U8", shape: [4], data_offsets: [4, 0] }), /the begin not after the end/],
  [
    "an end at the last safe integer",
    "offsets",
    one({ dtype: "U8", shape: [4], data_offsets: [2 ** 53 - 5, 2 ** 53 - 1] }),
    /an end below 2\^53/,
  ],
  [
    "offsets one byte longer than the shape",
    "size-mismatch",
    one({ dtype: "U8", shape: [3], data_offsets: [0, 4] }),
    /hold 4 bytes, expected 3 for U8 \[3\]/,
  ],
  [
    "offsets one byte shorter than the shape",
    "size-mismatch",
    one({ dtype: "F32", shape: [], data_offsets: [0, 3] }, 3),
    /hold 3 bytes, expected 4/,
  ],
  [
    "an overlap of one byte",
    "overlap",
    file({ a: u8(0, 4), b: u8(3, 8) }, 8),
    /tensor 'b' begins at byte 3 of the data, overlapping, expected 4, where tensor 'a' ends/,
  ],
  ["one tensor inside another", "overlap", file({ a: u8(0, 8), b: u8(2, 4) }, 8), /tensor 'b'/],
  ["the same bytes twice", "overlap", file({ a: u8(0, 4), b: u8(0, 4) }, 4), /tensor 'b'/],
  ["an empty tensor inside another", "overlap", file({ a: u8(0, 8), b: u8(4, 4) }, 8), /tensor 'b'/],
  ["a gap of one byte", "gap", file({ a: u8(0, 4), b: u8(5, 8) }, 8), /leaving a gap, expected 4/],
  ["a gap before the first", "gap", file({ a: u8(1, 4) }, 4), /expected 0, where the header ends/],
  ["an offset far outside", "gap", file({ a: u8(0, 4), b: u8(2 ** 40, 2 ** 40 + 4) }, 8), /tensor 'b'/],
  [
    "F32 at an odd byte",
    "misaligned",
    file({ a: u8(0, 1), b: { dtype: "F32", shape: [1], data_offsets: [1, 5] } }, 5),
    /begin at 1, expected a multiple of 4 for F32/,
  ],
  [
    "a file cut by one byte",
    "truncated",
    file({ a: u8(0, 4) }, 3),
    /has \d+ bytes, expected \d+, where tensor 'a' ends \(the file is truncated/,
  ],
  ["one byte after the last tensor", "trailing-bytes", file({ a: u8(0, 4) }, 5), /1 bytes too many/],
  ["data without tensors", "trailing-bytes", rawFile("{}", 1), /1 bytes too many/],
];

describe("openSafetensors() refuses", () => {
  it.each(BAD)("%s with code %s", async (_, code, bytes, message) => {
    const error = await failure(bytes);
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ name: "SafetensorsError", code, file: "x.safetensors" });
    expect(error.message.startsWith("Cannot read 'x.safetensors': ")).toBe(true);
    expect(error.message).toContain(error.expected);
  });
});

describe("openSafetensors() accepts", () => {
  it("a file without tensors", async () => {
    const opened = await open(rawFile("{}"));
    expect(opened.tensors.size).toBe(0);
    expect(opened.dataStart).toBe(10);
  });

  it("a header padded with spaces, metadata, scalars, empty tensors, and names that objects have", async () => {
    const bytes = rawFile(
      `${JSON.stringify({
        __metadata__: { format: "pt" },
        scalar: { dtype: "F32", shape: [], data_offsets: [0, 4] },
        empty: { dtype: "F64", shape: [0, 2 ** 50, 2 ** 50], data_offsets: [0, 0] },
        constructor: { dtype: "BOOL", shape: [2], data_offsets: [4, 6] },
      }).replace("}}", '},"__proto__":{"dtype":"U8","shape":[1,1],"data_offsets":[6,7]}}')}   `,
      7,
    );
    const opened = await open(bytes);
    expect([...opened.tensors.keys()].sort()).toEqual(["__proto__", "constructor", "empty", "scalar"]);
    expect(opened.metadata).toEqual(new Map([["format", "pt"]]));
    expect(await opened.readTensor("__proto__")).toEqual(bytes.slice(-1));
    expect(await opened.readTensor("empty")).toEqual(new Uint8Array(0));
    expect(Object.isFrozen(opened)).toBe(true);
    expect(Object.isFrozen(opened.tensors.get("scalar")?.shape)).toBe(true);
  });

  it("tensors listed in any order and fields it does not know", async () => {
    const opened = await open(file({ b: { ...u8(4, 8), note: "x" }, a: u8(0, 4) }, 8));
    expect(opened.tensors.get("b")).toMatchObject({ begin: opened.dataStart + 4, end: opened.dataStart + 8, byteLength: 4 });
  });

  it("data that does not start on a multiple of 8", async () => {
    const opened = await open(file({ a: { dtype: "F64", shape: [1], data_offsets: [0, 8] } }, 8));
    expect(opened.dataStart % 8).not.toBe(0);
  });
});

describe("openSafetensors() on damaged headers", () => {
  it("either opens a consistent file or throws a SafetensorsError, whatever bytes change", async () => {
    const good = file({ __metadata__: { k: "v" }, a: u8(0, 4), b: { dtype: "F32", shape: [2, 2], data_offsets: [4, 20] } }, 20);
    const next = random(20_251_123);
    let opened = 0;
    for (let round = 0; round < 3000; round++) {
      const bytes = good.slice(0, next() < 0.1 ? Math.floor(next() * good.length) : good.length);
      for (let flips = 0; flips <= Math.floor(next() * 3) && bytes.length > 0; flips++) {
        const alphabet = next() < 0.5 ? Math.floor(next() * 256) : '{}[]",:0123456789-e.\\ '.charCodeAt(Math.floor(next() * 22));
        bytes[Math.floor(next() * Math.min(bytes.length, good.length - 20))] = alphabet;
      }
      const result = await open(bytes).catch((error: unknown) => error);
      if (result instanceof Error) expect(result).toBeInstanceOf(SafetensorsError);
      else opened++;
    }
    expect(opened).toBeGreaterThan(0);
  });
});
