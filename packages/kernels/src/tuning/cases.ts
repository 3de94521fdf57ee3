/** Everything that has variants, at the shapes of models. An operation that is not here keeps what the device prefers; a test compares the list with the kernels. */
import type { GpuContext } from "@shoal/gpu";
import { attendCase } from "./attend.ts";
import { cacheBytes, attentionCase } from "./attention.ts";
import { attentionSublayerCase } from "./attentionSublayer.ts";
import type { TuningCase } from "./case.ts";
import { sampleCase } from "./choice.ts";
import { expertsCase } from "./experts.ts";
import { gateCase } from "./gate.ts";
import { absorbCase, outputCase } from "./latents.ts";
import { moeSublayerCase } from "./moeSublayer.ts";
import { productCase } from "./products.ts";
import { type TuningShapes, type TuningSize, smallLayer, tuningShapes } from "./shapes.ts";

/** More tokens are a prefill. */
const BATCH_TOKENS = 64;
/** Positions before a token that attends in one dispatch. */
const SHORT_CONTEXT = 250;

/** @param quick see `tuningShapes` */
export function tuningCases(gpu: GpuContext, size: TuningSize, quick: boolean): readonly TuningCase[] {
  const layer = smallLayer(size);
  const sublayers = [attentionSublayerCase(layer, SHORT_CONTEXT), moeSublayerCase(layer)];
  return [...tuningShapes(size, quick).flatMap((shapes) => modelCases(gpu, shapes)), ...sublayers];
}

function modelCases(gpu: GpuContext, shapes: TuningShapes): readonly TuningCase[] {
  const { name, products, prefillProducts, experts, gate, mla, contexts, vocab } = shapes;
  const { fewTokens, manyTokens, prefillTokens, batchTiles, prefillTiles } = shapes;
  const largest = Math.min(gpu.limits.maxStorageBufferBindingSize, gpu.limits.maxBufferSize);
  const both = ["gateUp", "down"] as const;
  const cases: TuningCase[] = [];
  for (const tokens of fewTokens) for (const product of products) cases.push(productCase("matvec", name, product, tokens));
  for (const tokens of fewTokens) for (const which of both) cases.push(expertsCase(which, name, experts, tokens));
  cases.push(gateCase(name, gate));
  for (const tokens of manyTokens) for (const product of prefillProducts) cases.push(productCase("matmul", name, product, tokens));
  for (const tokens of new Set([...manyTokens.filter((count) => count <= BATCH_TOKENS), prefillTokens]))
    for (const tileRows of tokens <= BATCH_TOKENS ? batchTiles : prefillTiles)
      for (const which of both) cases.push(expertsCase(which, name, experts, tokens, tileRows));
  for (const context of contexts) if (cacheBytes(mla, context) <= largest) cases.push(attentionCase(name, mla, context, 1));
  cases.push(attendCase(name, mla, SHORT_CONTEXT));
  cases.push(attentionCase(name, mla, prefillTokens, prefillTokens));
  for (const tokens of new Set([1, ...manyTokens.filter((count) => count <= BATCH_TOKENS), prefillTokens])) {
    cases.push(absorbCase(name, mla, tokens));
    cases.push(outputCase(name, mla, Math.max(...contexts), tokens));
  }
  cases.push(sampleCase(name, vocab));
  return cases;
}
