/**
 * Products with a few vectors, as decoding has them: each shape as the device would run it ("matvec"), and some shapes by every variant ("matvec-variants").
 *
 * A matrix that caches hold would be timed from there, which no decoding step can: of small ones there are as many as make 256 MB, used one after the other.
 */
import type { GpuContext } from "@shoal/gpu";
import { matvec } from "../matvec/kernel.ts";
import { linearReference } from "../matvec/reference.ts";
import { matvecOperation, matvecVariants } from "../matvec/variants.ts";
import { takeTurns } from "../rowTeams.ts";
import { type Random, assertClose, normals } from "../testing/mod.ts";
import { chooseVariant, supportedVariants } from "../variants.ts";
import { type WeightFormat, type WeightMatrix, matrixBytes } from "../weights.ts";
import { type BenchCase, type BenchCases, type Keep, type Prepared, TOLERANCE, pick, sampledRows } from "./case.ts";
import { benchMatrix } from "./pattern.ts";

interface Product {
  readonly what: string;
  readonly rows: number;
  readonly cols: number;
  readonly format: WeightFormat;
}

/** Of DeepSeek-V3. */
const V3: readonly Product[] = [
  { what: "q_a, kv_a", rows: 2112, cols: 7168, format: "fp8" },
  { what: "q_b", rows: 24_576, cols: 1536, format: "fp8" },
  { what: "o", rows: 7168, cols: 16_384, format: "fp8" },
  { what: "gate", rows: 256, cols: 7168, format: "bf16" },
  { what: "part of the head", rows: 32_768, cols: 7168, format: "bf16" },
];
const V3_HEAD: Product = { what: "head", rows: 129_280, cols: 7168, format: "bf16" };
/** Of V2-Lite. */
const LITE: readonly Product[] = [
  { what: "q, kv_a", rows: 3648, cols: 2048, format: "fp8" },
  { what: "o", rows: 2048, cols: 2048, format: "fp8" },
  { what: "gate", rows: 64, cols: 2048, format: "bf16" },
  { what: "head", rows: 102_400, cols: 2048, format: "bf16" },
];
/** For software adapters. */
const SMALL: readonly Product[] = [
  { what: "fp8", rows: 512, cols: 2048, format: "fp8" },
  { what: "bf16", rows: 2048, cols: 512, format: "bf16" },
];

const TOKENS = [1, 2, 4];
const LADDER_TOKENS = [1, 4];
/** Software adapters take half a second to compile each. */
const SOFTWARE_VARIANTS = 3;
/** More than caches hold. */
const READ_BYTES = 256 * 2 ** 20;

export const matvecCases: BenchCases = (_, gpu) => {
  const { isSoftware } = gpu.adapter;
  const shapes = isSoftware ? SMALL : [...V3, V3_HEAD, ...LITE];
  const asRun = shapes.flatMap((shape) =>
    (isSoftware ? [1] : TOKENS).map((tokens) => ({ op: "matvec", ...product(gpu, shape, tokens, undefined) })),
  );
  const ladder = (isSoftware ? SMALL : [...V3, ...LITE.slice(0, 2)]).flatMap((shape, index) =>
    (isSoftware ? [1] : LADDER_TOKENS).flatMap((tokens) => {
      const all = supportedVariants(gpu, matvecVariants(gpu, { ...shape, tokens, stride: shape.cols }));
      return (isSoftware ? takeTurns(all, index).slice(0, SOFTWARE_VARIANTS) : all).map(({ name }) => ({
        op: "matvec-variants",
        ...product(gpu, shape, tokens, name),
      }));
    }),
  );
  return [...asRun, ...ladder];
};

function product(gpu: GpuContext, shape: Product, tokens: number, variant: string | undefined): Omit<BenchCase, "op"> {
  const { what, rows, cols, format } = shape;
  const copies = gpu.adapter.isSoftware ? 1 : Math.max(1, Math.round(READ_BYTES / matrixBytes(shape)));
  const key = { format, tokens, rows, stride: cols };
  const chosen = variant ?? chooseVariant(gpu, matvecOperation(key), matvecVariants(gpu, key)).name;
  return {
    name: `${what} ${rows} x ${cols} ${format}, ${copies} of them, ${tokens} ${tokens === 1 ? "token" : "tokens"}, ${chosen}`,
    prepare: (device, keep, random) => prepare(device, keep, random, shape, tokens, copies, chosen),
  };
}

async function prepare(
  gpu: GpuContext,
  keep: Keep,
  random: Random,
  shape: Product,
  tokens: number,
  copies: number,
  variant: string,
): Promise<Prepared> {
  const { rows, cols } = shape;
  const { matrix, rowsOf } = benchMatrix(gpu, keep, random, shape);
  const input = normals(random, tokens * cols);
  const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
  const y = keep(gpu.buffer({ label: "y", size: tokens * rows * 4, kind: "activations" }));
  const dispatches = [];
  for (let i = 0; i < copies; i++) {
    const own = i === 0 ? matrix : copied(gpu, keep, matrix);
    dispatches.push(...(await matvec(gpu, { matrix: own, tokens, x, xStride: cols, y, yStride: rows, variant })));
  }
  const verify = async (): Promise<void> => {
    const sampled = sampledRows(random, rows);
    const result = new Float32Array(await gpu.read(y, 0, tokens * rows * 4));
    const expected = linearReference(input, rowsOf(sampled), tokens, sampled.length, cols);
    assertClose(pick(result, tokens, rows, sampled), expected, TOLERANCE, `y of ${variant}`);
  };
  return { dispatches, verify };
}

function copied(gpu: GpuContext, keep: Keep, matrix: WeightMatrix): WeightMatrix {
  const parts = matrix.parts.map((part) => {
    const { size } = part.buffer;
    const buffer = keep(gpu.buffer({ label: "bench weights", size, kind: "weights" }));
    gpu.submit([{ copy: { from: part.buffer, fromOffset: 0, to: buffer, toOffset: 0, size } }]);
    return { ...part, buffer };
  });
  return { ...matrix, parts };
}
