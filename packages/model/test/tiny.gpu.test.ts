/** The trained model on one device, so that each kernel is compiled once: goldens, greedy texts, perplexity, what a warm step costs. */
import type { DenoEngine } from "@shoal/gpu/deno";
import { drafting } from "./cases/drafting.ts";
import { goldenTiny } from "./cases/goldenTiny.ts";
import { greedy } from "./cases/greedy.ts";
import { memory } from "./cases/memory.ts";
import { perplexity } from "./cases/perplexity.ts";
import { TINY_PROMPTS, quantized } from "./cases/quantized.ts";
import { SUBLAYERS, sublayers } from "./cases/sublayers.ts";
import { warmDecode } from "./cases/warmDecode.ts";
import { type GpuTest, Models } from "./support/models.ts";

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  const whole = new Models(engine, SUBLAYERS);
  return [
    ...goldenTiny(models),
    ...quantized(models, TINY_PROMPTS),
    ...greedy(models),
    ...drafting(models),
    ...perplexity(models),
    ...warmDecode(models),
    ...memory(models, ["tiny"]),
    models.closing(),
    ...sublayers(whole),
    whole.closing(),
  ];
}
