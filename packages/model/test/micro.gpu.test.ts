/** The two random models on one device: goldens, what must not depend on how a prompt is cut, several stages, bad input. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { adjusting } from "./cases/adjusting.ts";
import { badInput } from "./cases/badInput.ts";
import { goldenMicro } from "./cases/goldenMicro.ts";
import { invariants } from "./cases/invariants.ts";
import { layerRanges } from "./cases/layerRanges.ts";
import { sharedKv } from "./cases/sharedKv.ts";
import { memory } from "./cases/memory.ts";
import { RAGGED_PROMPTS, quantized } from "./cases/quantized.ts";
import { type GpuTest, Models } from "./support/models.ts";

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  return [
    ...goldenMicro(models),
    ...quantized(models, RAGGED_PROMPTS),
    ...invariants(models),
    ...layerRanges(models),
    ...sharedKv(models),
    ...adjusting(models),
    ...badInput(models),
    ...memory(models, ["ragged-v3-fp8", "micro-v2-bf16"]),
    models.closing(),
  ];
}
