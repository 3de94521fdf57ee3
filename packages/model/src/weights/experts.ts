/** Loads MLPs (routed experts, shared experts, dense layers) as expert groups. */
import { CHUNK, type ExpertGroup, type ExpertPage, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, roundUp } from "@shoal/kernels";
import { ModelError } from "../errors.ts";
import { expertsPerPage } from "./layout.ts";
import type { WeightReader } from "./reader.ts";

/** Where experts `first .. first + count` of a group come from: one MLP, cut into `count` slices of the group's width. */
export interface ExpertSource {
  /** Name up to `.gate_proj.weight`. */
  readonly name: string;
  readonly first: number;
  readonly count: number;
}

/** The stored format of an MLP. @throws ModelError if its three matrices differ, or have NaN-free scales missing. */
export function mlpFormat(reader: WeightReader, name: string): WeightFormat {
  const formats = ["gate_proj", "up_proj", "down_proj"].map((matrix) => reader.format(`${name}.${matrix}.weight`));
  const [format = "f32"] = formats;
  if (formats.some((other) => other !== format))
    throw new ModelError("unsupported", `Cannot load '${name}': its matrices are stored as ${formats.join(", ")}, expected one format`);
  return format;
}

/** @throws ModelError if the sources' formats differ. */
export async function loadExperts(
  reader: WeightReader,
  label: string,
  hidden: number,
  width: number,
  sources: readonly ExpertSource[],
): Promise<ExpertGroup> {
  const { gpu } = reader;
  const format = mlpFormat(reader, sources[0]?.name ?? "");
  const count = sources.reduce((sum, source) => sum + source.count, 0);
  const elementBytes = FORMAT_BYTES[format];
  const inStride = roundUp(hidden, CHUNK) * elementBytes;
  const outStride = roundUp(width, CHUNK) * elementBytes;
  const gateUpBytes = 2 * width * inStride;
  const downBytes = hidden * outStride;
  const pages = (what: string, expertBytes: number): readonly ExpertPage[] => {
    const perPage = expertsPerPage(`${label} ${what}`, expertBytes, count, gpu.limits);
    return Array.from({ length: Math.ceil(count / perPage) }, (_, page) => {
      const firstExpert = page * perPage;
      const experts = Math.min(perPage, count - firstExpert);
      return {
        buffer: gpu.buffer({ label: `${label} ${what} ${page}`, size: experts * expertBytes, kind: "weights" }),
        firstExpert,
        experts,
      };
    });
  };
  const gateUp = pages("gate_proj + up_proj", gateUpBytes);
  const down = pages("down_proj", downBytes);
  const blocksIn = Math.ceil(hidden / SCALE_BLOCK);
  const blocksOut = Math.ceil(width / SCALE_BLOCK);
  const gateUpScales = format === "fp8" ? new Float32Array(count * 2 * blocksOut * blocksIn) : undefined;
  const downScales = format === "fp8" ? new Float32Array(count * blocksIn * blocksOut) : undefined;

  for (const source of sources) {
    if (mlpFormat(reader, source.name) !== format)
      throw new ModelError(
        "unsupported",
        `Cannot load '${source.name}': it is stored as ${mlpFormat(reader, source.name)}, its layer's other experts as ${format}`,
      );
    const slices = Array.from({ length: source.count }, (_, slice) => ({ expert: source.first + slice, start: slice * width }));
    for (const [half, matrix] of ["gate_proj", "up_proj"].entries()) {
      const name = `${source.name}.${matrix}.weight`;
      const [rows = 0] = reader.info(name).shape;
      await reader.rows(
        name,
        slices.map(({ expert, start }) => ({
          ...place(gateUp, expert, gateUpBytes, half * width * inStride),
          strideBytes: inStride,
          rowStart: start,
          rows: Math.min(width, rows - start),
          columnStart: 0,
          columns: hidden,
        })),
      );
      if (!gateUpScales) continue;
      await reader.begin(`${name}_scale_inv`, (scales) => {
        for (const { expert, start } of slices) {
          const rowStart = start / SCALE_BLOCK;
          const rowEnd = Math.min(rowStart + blocksOut, Math.ceil(rows / SCALE_BLOCK));
          gateUpScales.set(scales.subarray(rowStart * blocksIn, rowEnd * blocksIn), (expert * 2 + half) * blocksOut * blocksIn);
        }
      });
    }
    const name = `${source.name}.down_proj.weight`;
    const [, cols = 0] = reader.info(name).shape;
    await reader.rows(
      name,
      slices.map(({ expert, start }) => ({
        ...place(down, expert, downBytes, 0),
        strideBytes: outStride,
        rowStart: 0,
        rows: hidden,
        columnStart: start,
        columns: Math.min(width, cols - start),
      })),
    );
    if (!downScales) continue;
    const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
    await reader.begin(`${name}_scale_inv`, (scales) => {
      for (const { expert, start } of slices)
        for (let row = 0; row < blocksIn; row++) {
          const from = row * scaleColumns + start / SCALE_BLOCK;
          const columns = Math.min(blocksOut, scaleColumns - start / SCALE_BLOCK);
          downScales.set(scales.subarray(from, from + columns), (expert * blocksIn + row) * blocksOut);
        }
    });
  }
  await reader.settle();
  return {
    format,
    count,
    hidden,
    width,
    gateUp,
    down,
    ...(gateUpScales && { gateUpScales: gpu.upload(`${label} gate and up scales`, gateUpScales, "weights") }),
    ...(downScales && { downScales: gpu.upload(`${label} down scales`, downScales, "weights") }),
  };
}

function place(pages: readonly ExpertPage[], expert: number, expertBytes: number, offset: number): { buffer: GPUBuffer; offset: number } {
  const page = pages.find(({ firstExpert, experts }) => expert >= firstExpert && expert < firstExpert + experts);
  if (!page) throw new RangeError(`No page for expert ${expert}`);
  return { buffer: page.buffer, offset: (expert - page.firstExpert) * expertBytes + offset };
}
