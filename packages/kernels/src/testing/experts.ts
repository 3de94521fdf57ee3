/** Random groups of experts in every stored format, with the values that they decode to. */
import type { GpuContext } from "@shoal/gpu";
import type { ExpertGroup, ExpertPage } from "../experts.ts";
import type { ExpertValues, Route } from "../expertsFew/reference.ts";
import { CHUNK, FORMAT_BYTES, SCALE_BLOCK, type WeightFormat, roundUp } from "../weights.ts";
import { storeWeight } from "./matrices.ts";
import type { Random } from "./random.ts";

export interface TestExperts {
  readonly group: ExpertGroup;
  readonly values: ExpertValues;
  /** All of the group's buffers, to free. */
  readonly buffers: readonly GPUBuffer[];
}

export interface TestExpertsOptions {
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly format: WeightFormat;
  readonly expertsPerPage?: number;
}

/** Weights about normal(0, 1 / sqrt(columns)); fp8 scales vary by block, so that a wrong block shows. */
export function randomExperts(gpu: GpuContext, random: Random, options: TestExpertsOptions): TestExperts {
  const { count, hidden, width, format, expertsPerPage = count } = options;
  const gateUp = randomMatrices(random, count * 2, width, hidden, format);
  const down = randomMatrices(random, count, hidden, width, format);
  const gateUpPages = upload(gpu, gateUp.stored, count, expertsPerPage);
  const downPages = upload(gpu, down.stored, count, expertsPerPage);
  const scales = format === "fp8" && {
    gateUpScales: gpu.upload("test gate-up scales", gateUp.scales, "weights"),
    downScales: gpu.upload("test down scales", down.scales, "weights"),
  };
  const values = { hidden, width, gate: new Float64Array(count * width * hidden), up: new Float64Array(count * width * hidden) };
  for (let e = 0; e < count; e++) {
    const size = width * hidden;
    values.gate.set(gateUp.values.subarray(e * 2 * size, (e * 2 + 1) * size), e * size);
    values.up.set(gateUp.values.subarray((e * 2 + 1) * size, (e * 2 + 2) * size), e * size);
  }
  const pages = [...gateUpPages, ...downPages].map((page) => page.buffer);
  return {
    group: { format, count, hidden, width, gateUp: gateUpPages, down: downPages, ...scales },
    values: { ...values, down: down.values },
    buffers: scales ? [...pages, scales.gateUpScales, scales.downScales] : pages,
  };
}

/** Different experts for the slots of a token, weights in [-1, 1). */
export function randomRoutes(random: Random, count: number, tokens: number, slots: number): Route[] {
  return Array.from({ length: tokens }, () => {
    const experts = Array.from({ length: count }, (_, e) => e);
    return Array.from({ length: slots }, () => {
      const [expert = 0] = experts.splice(random.integer(experts.length), 1);
      return { expert, weight: Math.fround(random.uniform() * 2 - 1) };
    });
  }).flat();
}

/** `count` matrices [rows, cols], one after the other. */
function randomMatrices(random: Random, count: number, rows: number, cols: number, format: WeightFormat) {
  const stride = roundUp(cols, CHUNK);
  const scaleRows = Math.ceil(rows / SCALE_BLOCK);
  const scaleColumns = Math.ceil(cols / SCALE_BLOCK);
  const scales = Float32Array.from({ length: count * scaleRows * scaleColumns }, () => (0.5 + random.uniform()) / (64 * Math.sqrt(cols)));
  const values = new Float64Array(count * rows * cols);
  const stored = new Uint8Array(count * rows * stride * FORMAT_BYTES[format]);
  for (let m = 0; m < count; m++)
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < cols; c++) {
        const block = (m * scaleRows + Math.floor(r / SCALE_BLOCK)) * scaleColumns + Math.floor(c / SCALE_BLOCK);
        const scale = format === "fp8" ? (scales[block] ?? 0) : 1;
        const wanted = random.normal() * (format === "fp8" ? 64 : 1 / Math.sqrt(cols));
        values[(m * rows + r) * cols + c] = storeWeight(stored, (m * rows + r) * stride + c, wanted, format) * scale;
      }
  return { scales, values, stored };
}

function upload(gpu: GpuContext, stored: Uint8Array<ArrayBuffer>, count: number, expertsPerPage: number): ExpertPage[] {
  const expertBytes = stored.byteLength / count;
  const pages: ExpertPage[] = [];
  for (let firstExpert = 0; firstExpert < count; firstExpert += expertsPerPage) {
    const experts = Math.min(expertsPerPage, count - firstExpert);
    const bytes = stored.subarray(firstExpert * expertBytes, (firstExpert + experts) * expertBytes);
    pages.push({ buffer: gpu.upload("test experts", bytes, "weights"), firstExpert, experts });
  }
  return pages;
}
