/** Builds safetensors files for tests, right ones and wrong ones. */

export interface RawEntry {
  readonly dtype?: unknown;
  readonly shape?: unknown;
  readonly data_offsets?: unknown;
}

/** A file of exactly this header text and this many bytes of data, without any check. */
export function rawFile(header: string | Uint8Array, dataBytes = 0, length?: bigint): Uint8Array<ArrayBuffer> {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + json.byteLength + dataBytes);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(json.byteLength), true);
  file.set(json, 8);
  for (let i = 0; i < dataBytes; i++) file[8 + json.byteLength + i] = (i * 7 + 1) & 0xff;
  return file;
}

export function file(entries: Readonly<Record<string, RawEntry | Record<string, string>>>, dataBytes: number): Uint8Array<ArrayBuffer> {
  return rawFile(JSON.stringify(entries), dataBytes);
}

/** Small deterministic generator (mulberry32): a number in [0, 1). */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

export function randomBytes(length: number, seed: number): Uint8Array<ArrayBuffer> {
  const next = random(seed);
  return Uint8Array.from({ length }, () => Math.floor(next() * 256));
}
