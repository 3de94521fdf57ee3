/** Sequences in a paged latent cache whose blocks are scattered, and a step over them. */
import type { GpuContext } from "@shoal/gpu";
import { type KvFormat, type KvRowShape, kvRowBytes, kvRowElements } from "../kvRow.ts";
import { decodeKvRows, encodeKvRows } from "../kvWrite/rows.ts";
import type { KvCache, MlaShape, StepBuffers } from "../mla.ts";
import { ropeTable } from "../ropeTable.ts";
import type { Random } from "./random.ts";
import { uploadBatch } from "./steps.ts";

export interface TestRow {
  readonly sequence: number;
  readonly position: number;
}

export interface TestSequences {
  readonly step: StepBuffers;
  readonly cache: KvCache;
  /** The rope table, [positions, rope / 2, 2]. */
  readonly table: Float32Array;
  /** Index of a cached row's first element, as the block table has it: rows are kvRowElements() apart, in every format. */
  readonly rowOf: (row: TestRow) => number;
}

export interface TestSequencesOptions {
  readonly shape: MlaShape;
  readonly rows: readonly TestRow[];
  readonly format: KvFormat;
  readonly blockSize: number;
  /** Elements of the cache by element index; all zero if not given. Afterwards they are what the format keeps of them. */
  readonly fill?: (rowOf: (row: TestRow) => number, elements: Float32Array) => void;
}

/** Block size, and every position that the rows attend to has a block of its own, in random order. */
export function testSequences(
  gpu: GpuContext,
  random: Random,
  keep: <B extends GPUBuffer>(buffer: B) => B,
  { shape, rows, format, blockSize, fill }: TestSequencesOptions,
): TestSequences {
  const sequences = Math.max(...rows.map((row) => row.sequence)) + 1;
  const positions = Math.max(...rows.map((row) => row.position)) + 1;
  const blocksPerSequence = Math.ceil(positions / blockSize) + 1;
  const blockTable = Uint32Array.from({ length: sequences * blocksPerSequence }, (_, index) => index);
  for (let i = blockTable.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    const [a = 0, b = 0] = [blockTable[i], blockTable[j]];
    blockTable[i] = b;
    blockTable[j] = a;
  }
  const stride = kvRowElements(shape);
  const rowOf = ({ sequence, position }: TestRow): number => {
    const block = blockTable[sequence * blocksPerSequence + Math.floor(position / blockSize)] ?? 0;
    return (block * blockSize + (position % blockSize)) * stride;
  };
  const elements = new Float32Array(stride * blockSize * blockTable.length);
  fill?.(rowOf, elements);
  const stored = encodeKvRows(shape, format, elements);
  elements.set(decodeKvRows(shape, format, stored));
  const pairs = shape.qkRopeHeadDim / 2;
  const invFreq = Float64Array.from({ length: pairs }, (_, i) => 10000 ** (-i / pairs));
  const table = ropeTable(invFreq, positions, 1);
  const batch = {
    tokens: rows.map(() => 0),
    positions: rows.map((row) => row.position),
    sequences: rows.map((row) => row.sequence),
    outputRows: [],
  };
  const step = {
    ...uploadBatch(gpu, batch, rows.length + 3),
    blockTable: gpu.upload("block table", blockTable, "activations"),
    blocksPerSequence,
    ropeTable: gpu.upload("rope table", table, "weights"),
  };
  const cache = { buffer: gpu.upload("cache", stored, "kvCache"), format, blockSize, rowBytes: kvRowBytes(shape, format) };
  for (const buffer of [step.batch, step.blockTable, step.ropeTable, cache.buffer]) keep(buffer);
  return { step, cache, table, rowOf };
}

/** What a cache's buffer holds, as numbers by element index. */
export function cacheElements(bytes: ArrayBuffer, shape: KvRowShape, format: KvFormat): Float32Array {
  return decodeKvRows(shape, format, new Uint8Array(bytes));
}
