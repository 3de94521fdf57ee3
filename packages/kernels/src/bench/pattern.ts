/**
 * Large weights that take no time to make and no memory to remember: a block of random ones over and over, of a length that no row has, so that a wrong row or
 * column shows.
 */
import type { GpuContext } from "@shoal/gpu";
import type { ExpertGroup, ExpertPage } from "../experts.ts";
import { type Random, storeWeight } from "../testing/mod.ts";
import { FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, type WeightMatrix, type WeightPart } from "../weights.ts";
import type { Keep } from "./case.ts";

/** Four times a prime. */
const PATTERN_BYTES = 4 * 65_521;
const WRITTEN_AT_ONCE = 16;

interface Pattern {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly values: Float64Array;
}

export interface BenchMatrix {
  readonly matrix: WeightMatrix;
  /** Values of some rows, [rows.length, cols]. */
  readonly rowsOf: (rows: readonly number[]) => Float64Array;
}

export interface BenchExperts {
  readonly group: ExpertGroup;
  /** Values of some rows of every expert's matrix, [count, rows.length, columns]. */
  readonly gateRows: (rows: readonly number[]) => Float64Array;
  readonly upRows: (rows: readonly number[]) => Float64Array;
  readonly downRows: (rows: readonly number[]) => Float64Array;
}

/** fp8 codes are those of normal(0, 64), for scales to shrink; others are normal(0, 1 / sqrt(cols)). */
function randomPattern(random: Random, format: WeightFormat, cols: number): Pattern {
  const bytes = new Uint8Array(PATTERN_BYTES);
  const deviation = format === "fp8" ? 64 : 1 / Math.sqrt(cols);
  const values = Float64Array.from({ length: PATTERN_BYTES / FORMAT_BYTES[format] }, (_, index) =>
    storeWeight(bytes, index, random.normal() * deviation, format),
  );
  return { bytes, values };
}

/** Written once and copied from there: 10 GB take the device a moment, and the host none. */
function patternBuffer(gpu: GpuContext, keep: Keep, { bytes }: Pattern, size: number): GPUBuffer {
  const buffer = keep(gpu.buffer({ label: "bench weights", size, kind: "weights" }));
  const many = new Uint8Array(bytes.byteLength * WRITTEN_AT_ONCE);
  for (let i = 0; i < WRITTEN_AT_ONCE; i++) many.set(bytes, i * bytes.byteLength);
  const from = keep(gpu.upload("bench pattern", many, "scratch"));
  const starts = Array.from({ length: Math.ceil(size / many.byteLength) }, (_, index) => index * many.byteLength);
  gpu.submit(
    starts.map((toOffset) => ({ copy: { from, fromOffset: 0, to: buffer, toOffset, size: Math.min(many.byteLength, size - toOffset) } })),
  );
  return buffer;
}

function randomScales(random: Random, count: number, cols: number): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: count }, () => (0.5 + random.uniform()) / (64 * Math.sqrt(cols)));
}

/** W [rows, cols] in as many parts as bindings demand; `cols` is a multiple of 16. */
export function benchMatrix(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  { rows, cols, format }: { readonly rows: number; readonly cols: number; readonly format: WeightFormat },
): BenchMatrix {
  const pattern = randomPattern(random, format, cols);
  const rowBytes = cols * FORMAT_BYTES[format];
  const partRows = Math.floor(gpu.limits.maxStorageBufferBindingSize / rowBytes / SCALE_BLOCK) * SCALE_BLOCK;
  const parts: WeightPart[] = [];
  for (let rowStart = 0; rowStart < rows; rowStart += partRows) {
    const count = Math.min(partRows, rows - rowStart);
    parts.push({ buffer: patternBuffer(gpu, keep, pattern, count * rowBytes), rowStart, rows: count });
  }
  const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
  const scales = randomScales(random, Math.ceil(rows / SCALE_BLOCK) * scaleColumns, cols);
  const rowsOf = (wanted: readonly number[]): Float64Array =>
    Float64Array.from({ length: wanted.length * cols }, (_, i) => {
      const row = wanted[Math.floor(i / cols)] ?? 0;
      const c = i % cols;
      const scale = format === "fp8" ? (scales[Math.floor(row / SCALE_BLOCK) * scaleColumns + Math.floor(c / SCALE_BLOCK)] ?? 0) : 1;
      return (pattern.values[((row % partRows) * cols + c) % pattern.values.length] ?? 0) * scale;
    });
  const matrix = { format, rows, cols, stride: cols, parts };
  return { matrix: format === "fp8" ? { ...matrix, scales: keep(gpu.upload("bench scales", scales, "weights")) } : matrix, rowsOf };
}

/** fp8 experts; `hidden` and `width` are multiples of 16. `only`: leave the other matrices out, for room. */
export function benchExperts(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  {
    count,
    hidden,
    width,
    only,
  }: { readonly count: number; readonly hidden: number; readonly width: number; readonly only?: "gateUp" | "down" },
): BenchExperts {
  const size = (which: "gateUp" | "down"): number => (only === undefined || only === which ? count : 0);
  const gateUp = expertMatrices(gpu, keep, random, { count: size("gateUp"), perExpert: 2, rows: width, cols: hidden });
  const down = expertMatrices(gpu, keep, random, { count: size("down"), perExpert: 1, rows: hidden, cols: width });
  return {
    group: {
      format: "fp8",
      count,
      hidden,
      width,
      gateUp: gateUp.pages,
      down: down.pages,
      gateUpScales: gateUp.scales,
      downScales: down.scales,
    },
    gateRows: (rows) => gateUp.rowsOf(0, rows),
    upRows: (rows) => gateUp.rowsOf(1, rows),
    downRows: (rows) => down.rowsOf(0, rows),
  };
}

interface ExpertMatrices {
  readonly count: number;
  /** Matrices of an expert, one after the other. */
  readonly perExpert: number;
  readonly rows: number;
  readonly cols: number;
}

function expertMatrices(gpu: GpuContext, keep: Keep, random: Random, { count, perExpert, rows, cols }: ExpertMatrices) {
  const pattern = randomPattern(random, "fp8", cols);
  const expertBytes = perExpert * rows * cols;
  const perPage = Math.min(count, Math.floor(gpu.limits.maxStorageBufferBindingSize / expertBytes));
  const pages: ExpertPage[] = [];
  for (let firstExpert = 0; firstExpert < count; firstExpert += perPage) {
    const experts = Math.min(perPage, count - firstExpert);
    pages.push({ buffer: patternBuffer(gpu, keep, pattern, experts * expertBytes), firstExpert, experts });
  }
  const scaleRows = Math.ceil(rows / SCALE_BLOCK);
  const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
  const scales = randomScales(random, count * perExpert * scaleRows * scaleColumns, cols);
  /** Rows of each expert's matrix number `which`. */
  const rowsOf = (which: number, wanted: readonly number[]): Float64Array => {
    const out = new Float64Array(count * wanted.length * cols);
    for (let e = 0; e < count; e++)
      for (const [i, row] of wanted.entries())
        for (let c = 0; c < cols; c++) {
          const matrix = e * perExpert + which;
          const scale = scales[(matrix * scaleRows + Math.floor(row / SCALE_BLOCK)) * scaleColumns + Math.floor(c / SCALE_BLOCK)] ?? 0;
          const index = (((e % perPage) * perExpert + which) * rows + row) * cols + c;
          out[(e * wanted.length + i) * cols + c] = (pattern.values[index % pattern.values.length] ?? 0) * scale;
        }
    return out;
  };
  return { pages, scales: keep(gpu.upload("bench scales", scales, "weights")), rowsOf };
}
