/**
 * Tolerance, of each single result: half a unit in its last place and a thousandth, the nearest f32 but where the true sum lies in the middle of two; and besides 2^-32
 * of the largest result, for sums that nearly cancel. The experts' hidden values are rounded four times, and silu multiplies an error of gates far
 * below zero by as much as their size: six units.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { linearReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  assertNearest,
  normals,
  padded,
  randomExperts,
  randomMatrix,
  randomRoutes,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { type WeightFormat, roundUp } from "../weights.ts";
import { exactAttentionContract } from "./attentionContract.ts";
import { exactExpertsDown, exactExpertsGateUp, exactLinear } from "./kernel.ts";

interface LinearShape {
  readonly rows: number;
  readonly cols: number;
  readonly tokens: number;
  readonly format?: WeightFormat;
  readonly residual?: boolean;
  readonly partRows?: number;
}

interface ExpertShape {
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
  readonly tokens: number;
  readonly format?: WeightFormat;
  readonly expertsPerPage?: number;
  readonly residual?: boolean;
}

const LINEAR: readonly LinearShape[] = [
  { rows: 1, cols: 1, tokens: 1 },
  { rows: 7, cols: 31, tokens: 3 },
  { rows: 127, cols: 129, tokens: 2, residual: true },
  { rows: 261, cols: 600, tokens: 5, partRows: 128 },
  { rows: 40, cols: 96, tokens: 2, format: "bf16" },
  { rows: 33, cols: 50, tokens: 2, format: "f16", residual: true },
  { rows: 33, cols: 50, tokens: 2, format: "f32" },
];

const EXPERTS: readonly ExpertShape[] = [
  { count: 1, hidden: 1, width: 1, slots: 1, tokens: 1 },
  { count: 12, hidden: 200, width: 48, slots: 3, tokens: 7, residual: true },
  { count: 5, hidden: 43, width: 129, slots: 5, tokens: 3, residual: true },
  { count: 19, hidden: 96, width: 40, slots: 9, tokens: 2, expertsPerPage: 2, residual: true },
  { count: 4, hidden: 40, width: 96, slots: 2, tokens: 2, format: "bf16" },
];

export const exactContract: readonly ContractCase[] = [
  ...exactAttentionContract,
  ...LINEAR.map((shape, index) => ({
    name: `exactLinear() gives the f32 nearest to the f64 product for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => checkLinear(gpu, shape, index + 1),
  })),
  ...EXPERTS.map((shape, index) => ({
    name: `exactExperts: gate-up and down give the f32 nearest to the f64 experts for ${JSON.stringify(shape)}`,
    run: (gpu: GpuContext) => checkExperts(gpu, shape, index + 1),
  })),
];

async function checkLinear(gpu: GpuContext, shape: LinearShape, seed: number): Promise<void> {
  const { rows, cols, tokens, format = "fp8", residual = false, partRows } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const { matrix, values } = randomMatrix(gpu, random, { rows, cols, format, ...(partRows && { partRows }) });
    for (const part of matrix.parts) keep(part.buffer);
    if (matrix.scales) keep(matrix.scales);
    const x = normals(random, tokens * cols);
    const before = normals(random, tokens * rows);
    const xStride = roundUp(cols, 16) + 16;
    const yStride = roundUp(rows, 16) + 16;
    const xBuffer = keep(gpu.upload("x", padded(x, tokens, cols, xStride), "activations"));
    const y = keep(gpu.upload("y", padded(before, tokens, rows, yStride), "activations"));
    const dispatches = await exactLinear(gpu, { matrix, tokens, x: xBuffer, xStride, y, yStride, residual });
    const result = unpadded(await runAndRead(gpu, dispatches, y), tokens, rows, yStride);
    const expected = linearReference(x, values, tokens, rows, cols);
    if (residual) for (let i = 0; i < expected.length; i++) expected[i] = (expected[i] ?? 0) + (before[i] ?? 0);
    assertNearest(result, expected, 0.501, "y");
  });
}

async function checkExperts(gpu: GpuContext, shape: ExpertShape, seed: number): Promise<void> {
  const { count, hidden, width, slots, tokens, format = "fp8", expertsPerPage, residual = false } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const paged = expertsPerPage === undefined ? {} : { expertsPerPage };
    const { group, values, buffers } = randomExperts(gpu, random, { count, hidden, width, format, ...paged });
    for (const buffer of buffers) keep(buffer);
    const routes = randomRoutes(random, count, tokens, slots);
    const x = normals(random, tokens * hidden);
    const before = normals(random, tokens * hidden);
    const stride = roundUp(hidden, 16) + 16;
    const hStride = roundUp(width, 16);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const xBuffer = keep(gpu.upload("x", padded(x, tokens, hidden, stride), "activations"));
    const h = keep(gpu.buffer({ label: "h", size: tokens * slots * hStride * 4, kind: "activations" }));
    const gateUp = await exactExpertsGateUp(gpu, { group, slots, routing, x: xBuffer, xStride: stride, h, tokens });
    const y = keep(gpu.upload("y", padded(before, tokens, hidden, stride), "activations"));
    const down = await exactExpertsDown(gpu, { group, slots, routing, h, y, yStride: stride, residual, tokens });
    const hActual = unpadded(await runAndRead(gpu, gateUp, h), tokens * slots, width, hStride);
    assertNearest(hActual, gateUpReference(values, x, routes, slots), 6, "h");
    const yActual = unpadded(await runAndRead(gpu, down, y), tokens, hidden, stride);
    const start = residual ? before : new Float64Array(tokens * hidden);
    // Pages not bound together are added one after the other, and rounded each time.
    const ulps = expertsPerPage === undefined ? 0.501 : 20;
    assertNearest(yActual, combineReference(downReference(values, hActual, routes), routes, slots, start), ulps, "y");
  });
}
