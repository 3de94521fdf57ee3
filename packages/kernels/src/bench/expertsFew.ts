/**
 * The chosen experts of a few tokens, as decoding has them: as the device would run them ("expertsGateUpFew", "expertsDownFew"), and by every variant
 * ("expertsGateUpFew-variants", "expertsDownFew-variants"), in one page and in four, as large layers have. Where experts are small, several choices of them are
 * timed one after the other, so that none is read from caches.
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { type ExpertPage, encodeRouting } from "../experts.ts";
import { expertsDownFew, expertsGateUpFew } from "../expertsFew/kernel.ts";
import { combineReference, downReference, gateUpReference } from "../expertsFew/reference.ts";
import { type ExpertsFewShape, downVariants, expertsFewOperation, gateUpVariants } from "../expertsFew/variants.ts";
import { takeTurns } from "../rowTeams.ts";
import { type Random, assertClose, normals, randomRoutes } from "../testing/mod.ts";
import { chooseVariant, supportedVariants } from "../variants.ts";
import { type BenchCase, type BenchCases, type Keep, type Prepared, TOLERANCE, pick, sampledRows } from "./case.ts";
import { benchExperts } from "./pattern.ts";

interface Experts {
  readonly what: string;
  readonly count: number;
  readonly hidden: number;
  readonly width: number;
  readonly slots: number;
}

const V3: Experts = { what: "V3", count: 16, hidden: 7168, width: 2048, slots: 9 };
const LITE: Experts = { what: "V2-Lite", count: 66, hidden: 2048, width: 1408, slots: 8 };
/** For software adapters. */
const SMALL: Experts = { what: "small", count: 16, hidden: 512, width: 256, slots: 9 };

const TOKENS = [1, 2, 4];
const SPREAD_PAGES = 4;
/** Software adapters take half a second to compile each. */
const SOFTWARE_VARIANTS = 3;

type Which = "gateUp" | "down";

export const expertsFewCases: BenchCases = (_, gpu) => {
  const { isSoftware } = gpu.adapter;
  return (isSoftware ? [SMALL] : [V3, LITE]).flatMap((experts) =>
    (["gateUp", "down"] as const).flatMap((which) => {
      const op = which === "gateUp" ? "expertsGateUpFew" : "expertsDownFew";
      const asRun = (isSoftware ? [1] : TOKENS).map((tokens) => ({ op, ...timed(gpu, which, experts, tokens, 1) }));
      const paged = { op, ...timed(gpu, which, experts, 1, SPREAD_PAGES) };
      const variants = supportedVariants(gpu, variantsOf(gpu, which, shapeOf(experts, 1)));
      const ladder = (isSoftware ? takeTurns(variants, 1).slice(0, SOFTWARE_VARIANTS) : variants).flatMap(({ name }) =>
        (isSoftware ? [1] : [1, SPREAD_PAGES]).map((pages) => ({ op: `${op}-variants`, ...timed(gpu, which, experts, 1, pages, name) })),
      );
      return [...asRun, paged, ...ladder];
    }),
  );
};

function shapeOf({ count, hidden, width, slots }: Experts, tokens: number): ExpertsFewShape {
  return { group: { format: "fp8", count, hidden, width, gateUp: [], down: [] }, slots, tokens };
}

function variantsOf(gpu: GpuContext, which: Which, shape: ExpertsFewShape) {
  return which === "gateUp" ? gateUpVariants(gpu, shape) : downVariants(gpu, shape);
}

function timed(gpu: GpuContext, which: Which, experts: Experts, tokens: number, pages: number, variant?: string): Omit<BenchCase, "op"> {
  const { what, count, hidden, width, slots } = experts;
  const shape = shapeOf(experts, tokens);
  const chosen = variant ?? chooseVariant(gpu, expertsFewOperation(which, shape), variantsOf(gpu, which, shape)).name;
  const [rows, cols] = which === "gateUp" ? [width, hidden] : [hidden, width];
  return {
    name: `${what}, ${slots} of ${count} experts of ${rows} x ${cols} fp8${runsOf(gpu, experts) > 1 ? `, ${runsOf(gpu, experts)} times` : ""} in ${pages} ${pages === 1 ? "page" : "pages"}, ${tokens} ${tokens === 1 ? "token" : "tokens"}, ${chosen}`,
    prepare: (device, keep, random) => prepare(device, keep, random, { which, experts, tokens, pages, variant: chosen }),
  };
}

/** Choices of experts that have none in common. */
function runsOf(gpu: GpuContext, { count, slots }: Experts): number {
  return gpu.adapter.isSoftware ? 1 : Math.max(1, Math.floor(count / slots));
}

interface Timed {
  readonly which: Which;
  readonly experts: Experts;
  readonly tokens: number;
  readonly pages: number;
  readonly variant: string;
}

async function prepare(gpu: GpuContext, keep: Keep, random: Random, timedCase: Timed): Promise<Prepared> {
  const { which, experts, tokens, pages, variant } = timedCase;
  const { count, hidden, width, slots } = experts;
  const first = randomRoutes(random, count, tokens, slots);
  // One run after the other takes other experts, so that none is still in caches.
  const runs = Array.from({ length: runsOf(gpu, experts) }, (_, run) =>
    first.map(({ expert, weight }) => ({ expert: (expert + run * slots) % count, weight })),
  );
  const routes = runs.at(-1) ?? first;
  const routings = runs.map((run) => keep(gpu.upload("routing", encodeRouting(run), "activations")));
  const { group: whole, gateRows, upRows, downRows } = benchExperts(gpu, keep, random, { count, hidden, width });
  const group = pages === 1 ? whole : { ...whole, [which]: spread(gpu, keep, whole[which], count, pages) };
  const spec = { group, slots, tokens, variant };
  const compare = async (
    buffer: GPUBuffer,
    rows: number,
    columns: number,
    expected: (rows: readonly number[]) => Float64Array,
  ): Promise<void> => {
    const sampled = sampledRows(random, columns);
    const result = new Float32Array(await gpu.read(buffer, 0, rows * columns * 4));
    assertClose(pick(result, rows, columns, sampled), expected(sampled), TOLERANCE, `the output of ${variant}`);
  };
  if (which === "gateUp") {
    const input = normals(random, tokens * hidden);
    const x = keep(gpu.upload("x", Float32Array.from(input), "activations"));
    const h = keep(gpu.buffer({ label: "h", size: tokens * slots * width * 4, kind: "activations" }));
    const dispatches: Dispatch[] = [];
    for (const routing of routings) dispatches.push(...(await expertsGateUpFew(gpu, { ...spec, routing, x, xStride: hidden, h })));
    const expected = (rows: readonly number[]): Float64Array => {
      const values = { hidden, width: rows.length, gate: gateRows(rows), up: upRows(rows), down: new Float64Array() };
      return gateUpReference(values, input, routes, slots);
    };
    return { dispatches, verify: () => compare(h, tokens * slots, width, expected) };
  }
  const inner = normals(random, tokens * slots * width);
  const h = keep(gpu.upload("h", Float32Array.from(inner), "activations"));
  const y = keep(gpu.buffer({ label: "y", size: tokens * hidden * 4, kind: "activations" }));
  const dispatches: Dispatch[] = [];
  for (const routing of routings)
    dispatches.push(...(await expertsDownFew(gpu, { ...spec, routing, h, y, yStride: hidden, residual: false })));
  const expected = (rows: readonly number[]): Float64Array => {
    const values = { hidden: rows.length, width, gate: new Float64Array(), up: new Float64Array(), down: downRows(rows) };
    return combineReference(downReference(values, inner, routes), routes, slots, new Float64Array(tokens * rows.length));
  };
  return { dispatches, verify: () => compare(y, tokens, hidden, expected) };
}

/** The same experts in so many pages. */
function spread(gpu: GpuContext, keep: Keep, [from]: readonly ExpertPage[], count: number, pages: number): readonly ExpertPage[] {
  if (!from || from.experts !== count)
    throw new RangeError(`Cannot spread ${count} experts over pages: the first page holds ${from?.experts ?? 0}`);
  const bytes = from.buffer.size / count;
  const perPage = Math.ceil(count / pages);
  return Array.from({ length: Math.ceil(count / perPage) }, (_, page) => {
    const firstExpert = page * perPage;
    const experts = Math.min(perPage, count - firstExpert);
    const size = experts * bytes;
    const buffer = keep(gpu.buffer({ label: "bench page", size, kind: "weights" }));
    gpu.submit([{ copy: { from: from.buffer, fromOffset: firstExpert * bytes, to: buffer, toOffset: 0, size } }]);
    return { buffer, firstExpert, experts };
  });
}
