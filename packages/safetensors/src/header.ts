/**
 * The header of a safetensors file: 8 bytes of little-endian length, that many bytes of JSON, then the data. Pure: bytes in, checked and
 * frozen description out. Nothing is allocated for a length before the length has been compared with the file's size.
 *
 * Offsets in the JSON count from the start of the data; those in a `TensorInfo` count from the start of the file. Alignment is asked for
 * within the data, where writers control it; that the data itself starts on a multiple of 8 is asked for only in writing.
 */
import { DTYPE_BYTES, dtypeBytes, isDtype, tensorBytes, type Dtype } from "./dtype.ts";
import { quote, readError, type SafetensorsErrorCode } from "./error.ts";
import { parseStrictJson, StrictJsonError } from "./json.ts";
import type { TensorInfo } from "./tensors.ts";

/** Bytes of the length field. */
export const LENGTH_BYTES = 8;
/** The format's own cap on the header, which its reference implementation enforces. */
export const MAX_HEADER_BYTES = 100_000_000;

export interface Header {
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly dataStart: number;
}

/** The header's length, from the file's first 8 bytes. @throws {SafetensorsError} */
export function parseHeaderLength(prefix: Uint8Array, fileSize: number, file: string): number {
  if (fileSize < LENGTH_BYTES || prefix.byteLength < LENGTH_BYTES) throw tooShort(file, fileSize);
  const length = new DataView(prefix.buffer, prefix.byteOffset, LENGTH_BYTES).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    const expected = `at most ${MAX_HEADER_BYTES} bytes (is this a safetensors file?)`;
    throw readError({ code: "header-length", file, field: "header length", actual: `is ${length}`, expected });
  }
  const room = fileSize - LENGTH_BYTES;
  if (length > BigInt(room)) {
    const expected = `at most the ${room} bytes that follow it (is the file truncated?)`;
    throw readError({ code: "header-length", file, field: "header length", actual: `is ${length}`, expected });
  }
  if (length < 2n) {
    throw readError({ code: "header-length", file, field: "header length", actual: `is ${length}`, expected: "at least 2, for '{}'" });
  }
  return Number(length);
}

export function tooShort(file: string, fileSize: number) {
  return readError({
    code: "too-short",
    file,
    actual: `has ${fileSize} bytes`,
    expected: `at least ${LENGTH_BYTES}, for the header's length`,
  });
}

/**
 * Checks everything that the header claims, against itself and against the file's size.
 * @param json the header's bytes, without the length field
 * @throws {SafetensorsError}
 */
export function parseHeader(json: Uint8Array, source: { readonly name: string; readonly size: number }): Header {
  const file = source.name;
  const entries = Object.entries(parseJson(json, file));
  const dataStart = LENGTH_BYTES + json.byteLength;
  let metadata: ReadonlyMap<string, string> = new Map();
  const tensors: TensorInfo[] = [];
  for (const [name, value] of entries) {
    if (name === "__metadata__") metadata = parseMetadata(value, file);
    else tensors.push(parseTensor(name, value, dataStart, file));
  }
  checkLayout(tensors, dataStart, source.size, file);
  return Object.freeze({ metadata, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])), dataStart });
}

function parseJson(json: Uint8Array, file: string): Record<string, unknown> {
  if (json[0] !== 0x7b) {
    const actual = json[0] === undefined ? "is empty" : `starts with byte 0x${json[0].toString(16).padStart(2, "0")}`;
    throw readError({ code: "header-start", file, field: "header", actual, expected: "'{'" });
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(json);
  } catch (cause) {
    throw readError({ code: "header-utf8", file, field: "header", actual: "is not UTF-8", expected: "UTF-8 text", cause });
  }
  try {
    const value = parseStrictJson(text);
    if (isRecord(value)) return value;
  } catch (cause) {
    if (!(cause instanceof StrictJsonError)) throw cause;
    if (cause.kind === "duplicate") {
      const actual = `names ${quote(cause.message)} twice`;
      throw readError({ code: "duplicate-name", file, field: "header", actual, expected: "every name once", cause });
    }
    throw readError({
      code: "header-json",
      file,
      field: "header",
      actual: `is not JSON (${cause.message})`,
      expected: "a JSON object",
      cause,
    });
  }
  throw readError({ code: "header-json", file, field: "header", actual: "is not an object", expected: "a JSON object" });
}

function parseMetadata(value: unknown, file: string): ReadonlyMap<string, string> {
  const field = "__metadata__";
  if (!isRecord(value)) {
    throw readError({ code: "metadata", file, field, actual: `is ${quote(value)}`, expected: "an object of strings" });
  }
  const metadata = new Map<string, string>();
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== "string") {
      throw readError({ code: "metadata", file, field: `${field}.${key}`, actual: `is ${quote(text)}`, expected: "a string" });
    }
    metadata.set(key, text);
  }
  return metadata;
}

function parseTensor(name: string, value: unknown, dataStart: number, file: string): TensorInfo {
  const fail = (code: SafetensorsErrorCode, part: string, actual: string, expected: string) =>
    readError({ code, file, field: `tensor ${quote(name)}${part}`, actual, expected });
  if (!name.isWellFormed()) throw fail("tensor-entry", "", "has a name that is not Unicode", "a well-formed name");
  if (!isRecord(value)) throw fail("tensor-entry", "", `is ${quote(value)}`, "an object with dtype, shape and data_offsets");
  const { dtype, shape, data_offsets: offsets } = value;
  if (!isDtype(dtype)) throw fail("dtype", " dtype", `is ${quote(dtype)}`, `one of ${Object.keys(DTYPE_BYTES).join(", ")}`);
  if (!isCounts(shape)) throw fail("shape", " shape", `is ${quote(shape)}`, "an array of non-negative integers below 2^53");
  if (!isCounts(offsets) || offsets.length !== 2) {
    throw fail("offsets", " data_offsets", `is ${quote(offsets)}`, "two non-negative integers below 2^53");
  }
  const [begin = 0, end = 0] = offsets;
  if (begin > end) throw fail("offsets", " data_offsets", `is ${quote(offsets)}`, "the begin not after the end");
  if (!Number.isSafeInteger(dataStart + end)) throw fail("offsets", " data_offsets", `is ${quote(offsets)}`, "an end below 2^53");
  const bytes = tensorBytes(dtype, shape);
  if (bytes === null) throw fail("shape", " shape", `is ${quote(shape)}`, "fewer than 2^53 bytes in all");
  if (bytes !== end - begin) {
    throw fail("size-mismatch", " data_offsets", `hold ${end - begin} bytes`, `${bytes} for ${dtype} ${quote(shape)}`);
  }
  checkAlignment(dtype, begin, fail);
  return Object.freeze({
    name,
    dtype,
    shape: Object.freeze(shape),
    begin: dataStart + begin,
    end: dataStart + end,
    byteLength: bytes,
    file,
  });
}

function checkAlignment(
  dtype: Dtype,
  begin: number,
  fail: (code: SafetensorsErrorCode, part: string, actual: string, expected: string) => Error,
): void {
  const size = dtypeBytes(dtype);
  if (begin % size !== 0) throw fail("misaligned", " data_offsets", `begin at ${begin}`, `a multiple of ${size} for ${dtype}`);
}

/** The tensors must tile the data: no overlap, no gap, nothing after the last. */
function checkLayout(tensors: readonly TensorInfo[], dataStart: number, fileSize: number, file: string): void {
  const ordered = tensors.toSorted((a, b) => a.begin - b.begin || a.end - b.end);
  let end = dataStart;
  let previous = "the header";
  for (const tensor of ordered) {
    if (tensor.begin !== end) {
      const code = tensor.begin < end ? "overlap" : "gap";
      const actual = `begins at byte ${tensor.begin - dataStart} of the data, ${code === "gap" ? "leaving a gap" : "overlapping"}`;
      const expected = `${end - dataStart}, where ${previous} ends`;
      throw readError({ code, file, field: `tensor ${quote(tensor.name)}`, actual, expected });
    }
    end = tensor.end;
    previous = `tensor ${quote(tensor.name)}`;
  }
  if (end > fileSize) {
    const expected = `${end}, where ${previous} ends (the file is truncated: fetch it again)`;
    throw readError({ code: "truncated", file, actual: `has ${fileSize} bytes`, expected });
  }
  if (end < fileSize) {
    const expected = `${end}, where ${previous} ends (${fileSize - end} bytes too many)`;
    throw readError({ code: "trailing-bytes", file, actual: `has ${fileSize} bytes`, expected });
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0 && !Object.is(item, -0));
}
