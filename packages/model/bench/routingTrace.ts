/**
 * Records which experts the embedded model's router chooses, token by token, for `src/experts/expertCache.test.ts`: `deno run -A packages/model/bench/routingTrace.ts [wgpu|dawn]`.
 * Routing of a token does not depend on whether it was decoded or part of a prompt, so that each conversation, prompt and greedy answer, is one step.
 */
import { writeFile } from "node:fs/promises";
import { Models, readGolden, FIXTURES } from "@shoal/model/testing";
import { writeSafetensors } from "@shoal/safetensors";

const CONVERSATIONS = ["story", "multiturn", "sum_sys", "capital", "haystack600"];

const [webgpu = "wgpu"] = Deno.args;
if (webgpu !== "wgpu" && webgpu !== "dawn") throw new RangeError(`Cannot use '${webgpu}', expected wgpu or dawn`);
const models = new Models(webgpu);
const stage = await models.stage("tiny", { contextTokens: 1024, maxTokens: 1024, maxOutputs: 8 });
const traces: { name: string; shape: readonly number[]; bytes: Uint8Array<ArrayBuffer> }[] = [];
for (const name of CONVERSATIONS) {
  const golden = await readGolden(`tiny-${name}.safetensors`);
  const tokens = [...golden.ints("input_ids"), ...golden.ints("greedy_w8a32")];
  const sequence = await stage.open();
  const { routing = [] } = await stage.forward({ entries: [{ sequence, tokens }], output: "lastLogits", capture: { routing: true } });
  await stage.close(sequence);
  const chosen = (routing[0]?.indices.length ?? 0) / tokens.length;
  const bytes = new Uint8Array(tokens.length * routing.length * chosen);
  for (const [place, { indices }] of routing.entries())
    for (let token = 0; token < tokens.length; token++)
      bytes.set(indices.subarray(token * chosen, (token + 1) * chosen), (token * routing.length + place) * chosen);
  traces.push({ name, shape: [tokens.length, routing.length, chosen], bytes });
}
const parts: Uint8Array[] = [];
await writeSafetensors(
  { write: (bytes) => void parts.push(bytes.slice()) },
  traces.map(({ name, shape, bytes }) => ({ name, dtype: "U8", shape, data: () => [bytes] })),
);
const file = `${FIXTURES}tiny-routing.safetensors`;
await writeFile(file, parts);
console.log(`${file}: ${traces.map(({ name, shape }) => `${name} [${shape.join(", ")}]`).join(", ")}`);
await models.closing().run();
Deno.exit(0);
