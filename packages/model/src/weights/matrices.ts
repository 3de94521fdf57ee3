/** Loads dense matrices, alone or stacked so that one dispatch computes them together. */
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightMatrix, type WeightPart, roundUp } from "@shoal/kernels";
import { rowParts } from "./layout.ts";
import type { WeightReader } from "./reader.ts";

/** Matrices over the same input, and where the output of each begins. */
export interface StackedMatrix {
  readonly matrices: readonly { readonly matrix: WeightMatrix; readonly outputStart: number }[];
  /** Where each tensor's output begins, in order. */
  readonly starts: readonly number[];
  /** Width of all outputs. */
  readonly outputs: number;
}

export async function loadMatrix(reader: WeightReader, name: string): Promise<WeightMatrix> {
  const { matrices } = await loadStacked(reader, [name]);
  const [only] = matrices;
  if (!only) throw new RangeError("loadStacked gave nothing");
  return only.matrix;
}

/**
 * Stacks matrices of one format into one, each starting at a multiple of 128 rows, so that scale blocks line up; what lies between is zero. Matrices of different
 * formats stay apart, with outputs placed as if they were stacked.
 */
export async function loadStacked(reader: WeightReader, names: readonly string[]): Promise<StackedMatrix> {
  const shapes = names.map((name) => {
    const [rows = 0, cols = 0] = reader.info(name).shape;
    return { name, rows, cols, format: reader.format(name) };
  });
  const starts: number[] = [];
  let outputs = 0;
  for (const { rows } of shapes) {
    outputs = roundUp(outputs, SCALE_BLOCK);
    starts.push(outputs);
    outputs += rows;
  }
  const [first] = shapes;
  if (first && shapes.every(({ format }) => format === first.format)) {
    const matrix = await loadRows(reader, names, starts, outputs, first.cols);
    return { matrices: [{ matrix, outputStart: 0 }], starts, outputs };
  }
  const matrices: { matrix: WeightMatrix; outputStart: number }[] = [];
  for (const [index, { name, rows, cols }] of shapes.entries())
    matrices.push({ matrix: await loadRows(reader, [name], [0], rows, cols), outputStart: starts[index] ?? 0 });
  return { matrices, starts, outputs };
}

async function loadRows(
  reader: WeightReader,
  names: readonly string[],
  starts: readonly number[],
  rows: number,
  cols: number,
): Promise<WeightMatrix> {
  const { gpu } = reader;
  const label = names.join(" + ");
  const format = reader.format(names[0] ?? "");
  const stride = roundUp(cols, CHUNK);
  const strideBytes = stride * FORMAT_BYTES[format];
  const parts: readonly WeightPart[] = rowParts(label, rows, cols, format, gpu.limits).map(({ rowStart, rows: count }) => ({
    rowStart,
    rows: count,
    buffer: gpu.buffer({ label, size: count * strideBytes, kind: "weights" }),
  }));
  for (const [index, name] of names.entries()) {
    const start = starts[index] ?? 0;
    const [count = 0] = reader.info(name).shape;
    const targets = parts.flatMap((part) => {
      const begin = Math.max(start, part.rowStart);
      const end = Math.min(start + count, part.rowStart + part.rows);
      const offset = (begin - part.rowStart) * strideBytes;
      return begin < end
        ? [{ buffer: part.buffer, offset, strideBytes, rowStart: begin - start, rows: end - begin, columnStart: 0, columns: cols }]
        : [];
    });
    await reader.rows(name, targets);
  }
  if (format !== "fp8") return { format, rows, cols, stride, parts };
  const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
  const scales = new Float32Array(Math.ceil(rows / SCALE_BLOCK) * scaleColumns);
  for (const [index, name] of names.entries())
    scales.set(await reader.floats(`${name}_scale_inv`), ((starts[index] ?? 0) / SCALE_BLOCK) * scaleColumns);
  return { format, rows, cols, stride, parts, scales: gpu.upload(`${label} scales`, scales, "weights") };
}
