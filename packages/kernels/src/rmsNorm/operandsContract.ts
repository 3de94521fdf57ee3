/**
 * Tolerance: as rmsNorm's, 1e-6 of the largest result, and of sums of experts 2e-6. Of halves, one f16 number is within 2^-11 of the number or 2^-37 of its row's largest, two
 * within 2^-21. References are matvec's and the experts'.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { combineReference } from "../expertsFew/reference.ts";
import { type HalvesLayout, halvesBytes, halvesOctets } from "../matrix/halves.ts";
import { rmsNormReference } from "../matvec/reference.ts";
import {
  type ContractCase,
  MismatchError,
  assertClose,
  assertEqual,
  decodeHalves,
  normals,
  padded,
  randomRoutes,
  runAndRead,
  seededRandom,
  unpadded,
  withBuffers,
} from "../testing/mod.ts";
import { roundUp } from "../weights.ts";
import { normOperands } from "./operands.ts";

interface Shape {
  readonly cols: number;
  readonly tokens: number;
  /** Experts of a token whose outputs are added. */
  readonly slots?: number;
  readonly plain?: boolean;
  readonly halves?: Pick<HalvesLayout, "format" | "products" | "blocks">;
  readonly scale?: number;
}

const SHAPES: readonly Shape[] = [
  { cols: 1, tokens: 1, slots: 1, plain: true },
  { cols: 31, tokens: 3, plain: true, halves: { format: "f16", products: 1 } },
  { cols: 130, tokens: 17, slots: 3, halves: { format: "fp8", products: 2, blocks: true } },
  { cols: 512, tokens: 33, slots: 8, plain: true, halves: { format: "fp8", products: 1, blocks: true }, scale: 1e-9 },
  { cols: 1031, tokens: 2, slots: 2, plain: true, halves: { format: "fp8", products: 2 }, scale: 1e5 },
  { cols: 7168, tokens: 2, slots: 3, halves: { format: "fp8", products: 1 }, scale: 300 },
];

export const normOperandsContract: readonly ContractCase[] = SHAPES.map((shape, index) => ({
  name: `normOperands() equals the f64 norm in every form for ${JSON.stringify(shape)}`,
  run: (gpu) => check(gpu, shape, index + 1),
}));

async function check(gpu: GpuContext, shape: Shape, seed: number): Promise<void> {
  const { cols, tokens, slots, plain = false, halves: form, scale = 1 } = shape;
  const random = seededRandom(seed);
  await withBuffers(gpu, async (keep) => {
    const stride = roundUp(cols, 16) + 16;
    const before = normals(random, tokens * cols, scale).map(Math.fround);
    const gamma = normals(random, cols);
    // A row much larger than the others, whose power of two is not theirs.
    for (let c = 0; c < cols; c++) before[c] = Math.fround((before[c] ?? 0) * 1e3);
    const routes = randomRoutes(random, slots ?? 1, tokens, slots ?? 1);
    const outputs = normals(random, tokens * (slots ?? 0) * cols, scale).map(Math.fround);
    const x = keep(gpu.upload("x", padded(before, tokens, cols, stride), "activations"));
    const y = keep(gpu.upload("y", new Float32Array(tokens * stride).fill(7), "activations"));
    const layout: HalvesLayout | undefined = form && { ...form, rows: tokens, columns: cols };
    const halves = layout && keep(gpu.upload("halves", new Uint32Array(halvesBytes(layout) / 4).fill(0x7e007e00), "activations"));
    const dispatches = await normOperands(gpu, {
      x,
      xStride: stride,
      gamma: keep(gpu.upload("gamma", padded(gamma, 1, cols, roundUp(cols, 16)), "weights")),
      epsilon: 1e-6,
      cols,
      tokens,
      ...(slots !== undefined && {
        add: {
          slots,
          routing: keep(gpu.upload("routing", encodeRouting(routes), "activations")),
          // What follows a row's columns must not be added.
          out: keep(gpu.upload("out", padded(outputs, tokens * slots, cols, stride, 7), "activations")),
          outStride: stride,
        },
      }),
      ...(plain && { y: { buffer: y, stride } }),
      ...(layout && halves && { halves: { buffer: halves, layout } }),
    });
    const xWords = await runAndRead(gpu, dispatches, x);
    const summed = unpadded(xWords, tokens, cols, stride);
    const wanted = slots === undefined ? before : combineReference(outputs, routes, slots, before);
    if (slots === undefined) assertEqual(summed, before, "x");
    else assertClose(summed, wanted, { abs: 0, rel: 2e-6 }, "x with what experts gave");
    assertEqual(xWords.subarray(0, tokens * stride), padded(summed, tokens, cols, stride), "x with its padding");

    const expected = rmsNormReference(summed, gamma, tokens, cols, 1e-6);
    const yWords = new Float32Array(await gpu.read(y));
    if (plain) assertClose(unpadded(yWords, tokens, cols, stride), expected, { abs: 1e-7, rel: 1e-6 }, "y");
    const end = plain ? roundUp(cols, 4) : 0;
    for (let t = 0; t < tokens; t++)
      assertEqual(
        yWords.subarray(t * stride + end, (t + 1) * stride),
        new Float32Array(stride - end).fill(7),
        `what follows row ${t} of y`,
      );
    if (!layout || !halves) return;
    const decoded = decodeHalves(await gpu.read(halves), { layout });
    const width = 8 * halvesOctets(cols);
    const relative = layout.products === 1 ? 2 ** -11 : 2 ** -21;
    for (let t = 0; t < tokens; t++) {
      const row = expected.subarray(t * cols, (t + 1) * cols);
      const largest = Math.max(...row.map(Math.abs));
      const actual = decoded.subarray(t * width, (t + 1) * width);
      const worst = row.findIndex(
        (value, c) => !(Math.abs((actual[c] ?? Number.NaN) - value) <= relative * Math.abs(value) + (2 ** -37 + 2e-6) * largest),
      );
      if (worst >= 0) throw new MismatchError(`halves of row ${t}: column ${worst} is ${actual[worst]}, expected ${row[worst]}`);
      assertEqual(actual.subarray(cols), new Float64Array(width - cols), `padding of halves of row ${t}`);
    }
  });
}
