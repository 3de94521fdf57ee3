/**
 * A checkpoint of any config that takes no disk and no time: random weights, each tensor a stretch of one long repeated pattern, begun at a place of its own. The
 * pattern's length is no multiple of any row's, and it has more rows than any matrix, so no two rows of a matrix are the same. A slice of it is a copy of memory.
 *
 * Products keep the size of their inputs: matrices are about normal(0, 1 / sqrt(columns)), FP8 ones with scales that vary by block; the embedding is normal(0, 1), so
 * that tokens stay different and spread over the experts; norms are near 1.
 */
import { type CheckpointSource, type ModelConfig, type TensorSpec, tensorSchema } from "@shoal/checkpoint";
import { type Random, seededRandom, storeWeight } from "@shoal/kernels/testing";
import { type Dtype, type TensorInfo, type TensorPart, type TensorStore, tensorBytes } from "@shoal/safetensors";

/** Four times a prime above any vocabulary's size. */
const PATTERN_BYTES = 4 * 262_139;
/** Of the pattern over and over: most slices are one copy. */
const TAPE_BYTES = 9 * 2 ** 20;
const SLICE_BYTES = 8 * 2 ** 20;

type Tape = Uint8Array<ArrayBuffer>;

/** What a tensor's bytes are cut from. */
type TapeName = "matrix" | "plain" | "embedding" | "norm" | "bias" | "scale";

interface Stored {
  readonly info: TensorInfo;
  readonly tape: TapeName;
  /** Byte of the tape that is the tensor's first. */
  readonly start: number;
  /** Of scales: what the tape's values are multiplied by. */
  readonly factor: number;
}

export function syntheticCheckpoint(config: ModelConfig, name = "random weights"): CheckpointSource {
  return Object.freeze({
    location: name,
    layout: "single",
    config,
    generationConfig: null,
    tokenizerJson: null,
    tokenizerConfigJson: null,
    chatTemplate: null,
    tensors: new SyntheticStore(config, name),
    warnings: [],
    close: async () => {},
  });
}

class SyntheticStore implements TensorStore {
  readonly name: string;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly #stored = new Map<string, Stored>();
  readonly #tapes: Readonly<Record<TapeName, Tape>>;

  constructor(config: ModelConfig, name: string) {
    this.name = name;
    this.#tapes = makeTapes(config.hiddenSize);
    let begin = 0;
    const add = (tensor: string, dtype: Dtype, shape: readonly number[], tape: TapeName, factor = 1): void => {
      const byteLength = tensorBytes(dtype, shape) ?? Number.NaN;
      const info = { name: tensor, dtype, shape, begin, end: begin + byteLength, byteLength, file: name };
      this.#stored.set(tensor, { info, tape, start: startOf(tensor), factor });
      begin += byteLength;
    };
    for (const spec of tensorSchema(config)) {
      if (spec.duplicateOf !== null) continue;
      const [, cols = 1] = spec.shape;
      if (spec.scaleName === undefined) add(spec.name, spec.shape.length === 1 ? "F32" : "BF16", spec.shape, plainTape(spec));
      else {
        add(spec.name, "F8_E4M3", spec.shape, "matrix");
        add(spec.scaleName, "F32", spec.scaleShape ?? [], "scale", 1 / (FP8_DEVIATION * Math.sqrt(cols)));
      }
    }
    this.tensors = new Map([...this.#stored].map(([key, { info }]) => [key, info]));
  }

  async readTensor(name: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    return this.readPart(name, { offset: 0, length: this.#find(name).info.byteLength }, signal);
  }

  async *readSlices(
    name: string,
    {
      sliceBytes = SLICE_BYTES,
      offset = 0,
      length,
    }: { readonly sliceBytes?: number; readonly offset?: number; readonly length?: number } = {},
    signal?: AbortSignal,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void, undefined> {
    const end = offset + (length ?? this.#find(name).info.byteLength - offset);
    for (let at = offset; at < end; at += sliceBytes)
      yield await this.readPart(name, { offset: at, length: Math.min(sliceBytes, end - at) }, signal);
  }

  async readPart(name: string, { offset, length, into }: TensorPart, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
    signal?.throwIfAborted();
    const { info, tape, start, factor } = this.#find(name);
    if (offset < 0 || length < 0 || offset + length > info.byteLength)
      throw new RangeError(`Cannot read ${length} bytes at ${offset} of '${name}': it has ${info.byteLength}`);
    const out = into?.subarray(0, length) ?? new Uint8Array(length);
    fill(out, this.#tapes[tape], start + offset);
    if (factor !== 1) {
      const values = new Float32Array(out.slice().buffer);
      out.set(new Uint8Array(values.map((value) => value * factor).buffer));
    }
    return out;
  }

  async close(): Promise<void> {}

  #find(name: string): Stored {
    const stored = this.#stored.get(name);
    if (!stored) throw new RangeError(`Cannot read tensor '${name}': the config has none of that name`);
    return stored;
  }
}

/** fp8 codes are those of normal(0, 64), for scales to shrink. */
const FP8_DEVIATION = 64;

function makeTapes(hidden: number): Readonly<Record<TapeName, Tape>> {
  const random = seededRandom(1);
  return {
    matrix: makeTape(random, "fp8", () => FP8_DEVIATION * random.normal()),
    plain: makeTape(random, "bf16", () => random.normal() / Math.sqrt(hidden)),
    embedding: makeTape(random, "bf16", () => random.normal()),
    norm: makeTape(random, "f32", () => 1 + 0.1 * random.normal()),
    bias: makeTape(random, "f32", () => 0.05 * random.normal()),
    scale: makeTape(random, "f32", () => 0.5 + random.uniform()),
  };
}

/** Different values of a pattern: rounding each of a pattern's own would take seconds. */
const VALUES = 2 ** 14;

function makeTape(random: Random, format: "fp8" | "bf16" | "f32", value: () => number): Tape {
  const size = { fp8: 1, bf16: 2, f32: 4 }[format];
  const stored = new Uint8Array(VALUES * size);
  for (let i = 0; i < VALUES; i++) storeWeight(stored, i, value(), format);
  const pattern = new Uint8Array(PATTERN_BYTES);
  for (let at = 0; at < PATTERN_BYTES; at += size) {
    const from = random.integer(VALUES) * size;
    for (let byte = 0; byte < size; byte++) pattern[at + byte] = stored[from + byte] ?? 0;
  }
  const tape = new Uint8Array(Math.ceil(TAPE_BYTES / PATTERN_BYTES) * PATTERN_BYTES);
  for (let at = 0; at < tape.byteLength; at += PATTERN_BYTES) tape.set(pattern, at);
  return tape;
}

function fill(out: Uint8Array<ArrayBuffer>, tape: Tape, from: number): void {
  for (let at = 0; at < out.byteLength;) {
    const start = (from + at) % PATTERN_BYTES;
    const count = Math.min(out.byteLength - at, tape.byteLength - start);
    out.set(tape.subarray(start, start + count), at);
    at += count;
  }
}

function plainTape({ role, shape }: TensorSpec): TapeName {
  if (role === "embedding") return "embedding";
  if (shape.length === 1) return role === "norm" ? "norm" : "bias";
  return "plain";
}

/** A multiple of 4 that depends on all of a name (FNV-1a). */
function startOf(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193) >>> 0;
  return (hash % (PATTERN_BYTES / 4)) * 4;
}
