/**
 * Steps of some tens of tokens, such as 32 sequences decoding together: "batch-variants", products that should take no longer than reading
 * the weights does, by every variant; "group-tokens", sorting tokens by expert. Matrices of a few MB are read from caches here, as they are
 * not in a model.
 */
import type { GpuContext } from "@shoal/gpu";
import { encodeRouting } from "../experts.ts";
import { LOWEST_EXPERT_TILE } from "../expertsMany/tileRows.ts";
import { expertTiles, groupTokens } from "../expertsMany/grouping.ts";
import { groupReference } from "../expertsMany/reference.ts";
import { assertEqual, uploadBatch } from "../testing/mod.ts";
import type { BenchCase, BenchCases } from "./case.ts";
import { type Experts, type Product, benchRoutes, expertsVariants, productVariants } from "./manyVariants.ts";

/** V2-Lite's attention, in and out, and its head; DeepSeek-V3's widest product. */
const MATRICES: readonly Omit<Product, "tokens">[] = [
  { rows: 3648, cols: 2048 },
  { rows: 2048, cols: 2048 },
  { rows: 102_400, cols: 2048, format: "bf16" },
  { rows: 7168, cols: 16_384 },
];
const TOKENS = [8, 32, 64];
/** V2-Lite's layer, and a quarter of DeepSeek-V3's, with as many rows an expert as 32 tokens make. */
const LITE = { experts: 64, shared: 2, hidden: 2048, width: 1408, slots: 6 };
const V3 = { experts: 64, hidden: 7168, width: 2048, slots: 8 };
const EXPERTS: readonly Experts[] = [
  ...[8, 16].map((tileRows) => ({ ...LITE, tokens: 16, tileRows })),
  ...[8, 16, 32].map((tileRows) => ({ ...LITE, tokens: 32, tileRows })),
  ...[8, 16, 32].map((tileRows) => ({ ...LITE, tokens: 64, tileRows })),
  ...[8, 16].map((tileRows) => ({ ...V3, tokens: 8, tileRows })),
];
const GROUPS = [
  { experts: 64, shared: 2, slots: 6, tokens: 32 },
  { experts: 256, shared: 1, slots: 8, tokens: 512 },
];

const SMALL_PRODUCT: Product = { rows: 256, cols: 512, tokens: 16 };
const SMALL_EXPERTS: Experts = { experts: 8, shared: 1, hidden: 256, width: 128, slots: 2, tokens: 16, tileRows: 8 };

export const batchCases: BenchCases = (_, gpu) => {
  const { isSoftware } = gpu.adapter;
  const products = isSoftware ? [SMALL_PRODUCT] : MATRICES.flatMap((matrix) => TOKENS.map((tokens) => ({ ...matrix, tokens })));
  return [
    ...products.flatMap((product) => productVariants(gpu, "batch-variants", product)),
    ...(isSoftware ? [SMALL_EXPERTS] : EXPERTS).flatMap((shape) => expertsVariants(gpu, "batch-variants", shape)),
    ...GROUPS.map(groupCase),
  ];
};

function groupCase(shape: (typeof GROUPS)[number]): BenchCase {
  const { tokens, shared } = shape;
  const [count, slots] = [shape.experts + shared, shape.slots + shared];
  const prepare: BenchCase["prepare"] = async (gpu: GpuContext, keep, random) => {
    const routes = benchRoutes(random, shape);
    const routing = keep(gpu.upload("routing", encodeRouting(routes), "activations"));
    const zeros = Array.from({ length: tokens }, () => 0);
    const step = uploadBatch(gpu, { tokens: zeros, positions: zeros, sequences: zeros, outputRows: [] }, tokens);
    keep(step.batch);
    const sizes = { maxTokens: tokens, slots, experts: count, tileRows: LOWEST_EXPERT_TILE };
    const { tilesBytes, rowsBytes } = expertTiles(sizes);
    const tiles = keep(gpu.buffer({ label: "tiles", size: tilesBytes, kind: "activations" }));
    const rows = keep(gpu.buffer({ label: "tile rows", size: rowsBytes, kind: "activations" }));
    const dispatches = await groupTokens(gpu, { ...sizes, routing, tiles, rows, tokens, step });
    const verify = async (): Promise<void> => {
      const expected = groupReference(routes, LOWEST_EXPERT_TILE).rows;
      assertEqual(new Uint32Array(await gpu.read(rows, 0, routes.length * 4)), expected, "rows");
    };
    return { dispatches, verify, bytes: routes.length * 8 + rowsBytes };
  };
  return { op: "group-tokens", name: `${tokens} tokens, ${slots} of ${count} experts`, prepare };
}
