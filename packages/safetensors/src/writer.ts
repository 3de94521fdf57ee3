/**
 * Writes a safetensors file as a stream. All tensors are declared first, because the header precedes the data; then each one's bytes are
 * pulled, in the order of the file, and passed on as they come. Never holds more than one chunk.
 *
 * The caller's order is kept where it leaves every tensor aligned to its element; where it does not, the widest elements go first, as the
 * reference implementation sorts them. The header is padded with spaces so that the data starts on a multiple of 8.
 */
import { DTYPE_BYTES, dtypeBytes, isDtype, tensorBytes, type Dtype } from "./dtype.ts";
import { quote, SafetensorsError } from "./error.ts";
import { LENGTH_BYTES, MAX_HEADER_BYTES } from "./header.ts";

export interface TensorDeclaration {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

export interface WriteEntry extends TensorDeclaration {
  /** Called once, when this tensor's turn comes. The chunks, of any size, make up its bytes exactly. */
  readonly data: () => AsyncIterable<Uint8Array<ArrayBuffer>> | Iterable<Uint8Array<ArrayBuffer>>;
}

export interface WriteOptions {
  readonly metadata?: Readonly<Record<string, string>> | ReadonlyMap<string, string>;
  readonly signal?: AbortSignal;
}

/** Bytes go in order and one at a time; `write` may take its time. */
export interface ByteSink {
  readonly name?: string;
  write(bytes: Uint8Array<ArrayBuffer>): Promise<unknown> | void;
}

export interface Layout<T extends TensorDeclaration> {
  /** Length field, JSON and padding. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** In the order of the file. */
  readonly entries: readonly (T & { readonly byteLength: number })[];
  /** Of the whole file. */
  readonly byteLength: number;
}

/** The header and the order of the data. Pure. @throws {SafetensorsError} `write-entry` */
export function layoutSafetensors<T extends TensorDeclaration>(
  declared: readonly T[],
  options: { readonly metadata?: WriteOptions["metadata"]; readonly name?: string } = {},
): Layout<T> {
  const file = options.name ?? "stream";
  const fail = (field: string, actual: string, expected: string) =>
    new SafetensorsError("write", { code: "write-entry", file, field, actual, expected });
  const names = new Set(["__metadata__"]);
  const sized = declared.map((entry) => {
    const field = `tensor ${quote(entry.name)}`;
    if (names.has(entry.name)) throw fail(field, "is declared twice or is reserved", "a name of its own");
    if (!entry.name.isWellFormed()) throw fail(field, "is not Unicode", "a well-formed name");
    names.add(entry.name);
    if (!isDtype(entry.dtype)) throw fail(`${field} dtype`, `is ${quote(entry.dtype)}`, `one of ${Object.keys(DTYPE_BYTES).join(", ")}`);
    const whole = entry.shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0);
    const byteLength = whole ? tensorBytes(entry.dtype, entry.shape) : null;
    if (byteLength === null)
      throw fail(`${field} shape`, `is ${quote(entry.shape)}`, "non-negative integers, fewer than 2^53 bytes in all");
    return { ...entry, byteLength };
  });
  const entries = isAligned(sized) ? sized : sized.toSorted((a, b) => dtypeBytes(b.dtype) - dtypeBytes(a.dtype));

  const parts: string[] = [];
  const metadata = options.metadata instanceof Map ? [...options.metadata] : Object.entries(options.metadata ?? {});
  if (metadata.length > 0) {
    parts.push(`"__metadata__":{${metadata.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`).join(",")}}`);
  }
  let end = 0;
  for (const { name, dtype, shape, byteLength } of entries) {
    const begin = end;
    end += byteLength;
    parts.push(`${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: [begin, end] })}`);
  }
  const header = encodeHeader(`{${parts.join(",")}}`);
  const byteLength = header.byteLength + end;
  if (header.byteLength - LENGTH_BYTES > MAX_HEADER_BYTES) {
    throw fail("header", `has ${header.byteLength - LENGTH_BYTES} bytes`, `at most ${MAX_HEADER_BYTES}`);
  }
  if (!Number.isSafeInteger(byteLength)) throw fail("data", `has ${end} bytes`, "fewer than 2^53");
  return Object.freeze({ header, entries, byteLength });
}

function isAligned(entries: readonly { readonly dtype: Dtype; readonly byteLength: number }[]): boolean {
  let begin = 0;
  for (const { dtype, byteLength } of entries) {
    if (begin % dtypeBytes(dtype) !== 0) return false;
    begin += byteLength;
  }
  return true;
}

function encodeHeader(json: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(json);
  const padded = Math.ceil(text.byteLength / 8) * 8;
  const header = new Uint8Array(LENGTH_BYTES + padded).fill(0x20, LENGTH_BYTES);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(text, LENGTH_BYTES);
  return header;
}

/**
 * Writes header and data to `sink` and leaves it open: closing it on success and discarding what it has on failure is the caller's part.
 * @returns the bytes written
 * @throws {SafetensorsError} `write-entry`, or `write-data` where a tensor's data is not as long as declared
 */
export async function writeSafetensors(
  sink: WritableStream<Uint8Array<ArrayBuffer>> | ByteSink,
  entries: readonly WriteEntry[],
  options: WriteOptions = {},
): Promise<number> {
  const { metadata, signal } = options;
  signal?.throwIfAborted();
  const name = ("name" in sink ? sink.name : undefined) ?? "stream";
  const layout = layoutSafetensors(entries, metadata === undefined ? { name } : { metadata, name });
  const writer = "getWriter" in sink ? sink.getWriter() : null;
  const write = async (bytes: Uint8Array<ArrayBuffer>) => {
    signal?.throwIfAborted();
    if (writer === null) return await (sink as ByteSink).write(bytes);
    await writer.ready;
    return await writer.write(bytes);
  };
  try {
    await write(layout.header);
    for (const entry of layout.entries) {
      let done = 0;
      for await (const chunk of entry.data()) {
        done += chunk.byteLength;
        if (done > entry.byteLength) break;
        await write(chunk);
      }
      if (done !== entry.byteLength) {
        const actual = `gave ${done > entry.byteLength ? "at least " : ""}${done} bytes`;
        const expected = `${entry.byteLength} for ${entry.dtype} ${quote(entry.shape)}`;
        throw new SafetensorsError("write", { code: "write-data", file: name, field: `tensor ${quote(entry.name)}`, actual, expected });
      }
    }
  } finally {
    writer?.releaseLock();
  }
  return layout.byteLength;
}
