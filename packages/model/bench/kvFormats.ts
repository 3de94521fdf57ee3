/**
 * What the KV cache's format does to the embedded model's perplexity of prose that training did not see: `deno run -A packages/model/bench/kvFormats.ts [wgpu|dawn]`.
 * All logits come from steps that read the cache, as decoding does.
 */
import { type KvFormat, type LocalStage, memoryRequirements, stagePlan } from "@shoal/model";
import { Models, WINDOW, heldOutProse, windowNll } from "@shoal/model/testing";

const FORMATS: readonly KvFormat[] = ["f32", "f16", "fp8"];

const [webgpu = "dawn"] = Deno.args;
if (webgpu !== "wgpu" && webgpu !== "dawn") throw new RangeError(`Cannot use '${webgpu}', expected wgpu or dawn`);
const models = new Models(webgpu);
const ids = await heldOutProse(models);
const windows = Math.floor(ids.length / WINDOW);
const checkpoint = await models.checkpoint("tiny");
let exact: number | undefined;
console.log(`${windows * WINDOW} tokens in windows of ${WINDOW}`);
for (const kvFormat of FORMATS) {
  const options = { kvFormat, contextTokens: WINDOW, maxTokens: 256, maxOutputs: 256 } as const;
  const on: LocalStage = await models.stage("tiny", options);
  let sum = 0;
  for (let window = 0; window < windows; window++) sum += await windowNll(on, ids, window);
  const perplexity = Math.exp(sum / (windows * WINDOW));
  exact ??= perplexity;
  const { kvCache } = memoryRequirements(checkpoint, { ...stagePlan(checkpoint.config, options), kvFormat });
  const change = (100 * (perplexity - exact)) / exact;
  console.log(
    `${kvFormat}  ${kvCache / WINDOW} bytes a token  perplexity ${perplexity.toFixed(4)}  ${change >= 0 ? "+" : ""}${change.toFixed(3)} %`,
  );
}
await models.closing().run();
Deno.exit(0);
