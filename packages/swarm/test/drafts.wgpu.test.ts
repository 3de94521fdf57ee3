/** The trained model over two stages that push, with drafts of its MTP module: held to the golden files of the reference implementation. */
import assert from "node:assert/strict";
import { SharedStage, memoryChannel, serveStage } from "@shoal/cluster";
import { DECODE_TOKENS, type LocalStageOptions } from "@shoal/model";
import { type DenoEngine, type GpuTest, Models, readGolden, report } from "@shoal/model/testing";
import { openedOver } from "../src/member/client.ts";
import { SwarmStage } from "../src/pipeline/swarmStage.ts";
import { PushLinks } from "../src/push/pushLinks.ts";
import { servePushing } from "../src/push/pushPort.ts";
import { draftedAnswers } from "./draftedAnswers.ts";

const CASES = ["capital", "story"];
const TOKENS = 24;
const DRAFTS = 2;
/** Few rows a step: kernels for more are others, which take long to compile on a processor. */
const OPTIONS = {
  mode: "w8a32",
  kvFormat: "f32",
  contextTokens: 512,
  maxTokens: 2 * DECODE_TOKENS,
  maxOutputs: 8,
  maxSequences: 4,
} as const;

export function tests(engine: DenoEngine): readonly GpuTest[] {
  const models = new Models(engine);
  return [
    {
      name: "two stages, the second with the MTP module: greedy answers are the reference's, in fewer steps than tokens",
      run: async () => {
        const stage = await swarmOf(models);
        const goldens = await Promise.all(CASES.map((name) => readGolden(`tiny-${name}.safetensors`)));
        for (const [index, golden] of goldens.entries()) {
          const expected = golden.ints("greedy_w8a32").slice(0, TOKENS);
          const { ids, steps } = await draftedAnswers(stage, [golden.ints("input_ids")], expected.length, DRAFTS);
          assert.deepEqual(ids, [expected], CASES[index]);
          report(`${CASES[index]}: ${(expected.length / steps).toFixed(2)} tokens a step with ${DRAFTS} drafts`);
          assert.ok(steps < expected.length * 0.8, `${steps} steps for ${expected.length} tokens`);
        }
        await stage.destroy();
      },
    },
    models.closing(),
  ];
}

async function swarmOf(models: Models): Promise<SwarmStage> {
  const { nLayers, hiddenSize, vocabSize, kvLoraRank, qkRopeHeadDim } = (await models.checkpoint("tiny")).config;
  const cut = Math.floor(nLayers / 2);
  const hops = [
    { peer: "first", layers: { begin: 0, end: cut } },
    { peer: "last", layers: { begin: cut, end: nLayers } },
  ];
  const links = new Map<string, PushLinks>();
  for (const { peer: from } of hops)
    links.set(
      from,
      new PushLinks({
        connect: async (to) => {
          const [mine, theirs] = memoryChannel();
          links.get(to)?.receive(from, theirs);
          return mine;
        },
      }),
    );
  return SwarmStage.open({
    nLayers,
    hiddenSize,
    vocabSize,
    kvLoraRank,
    qkRopeHeadDim,
    plan: () => hops,
    missing: () => [],
    open: async ({ peer, layers }) => {
      const options: LocalStageOptions = { ...OPTIONS, layers, mtp: layers.end === nLayers };
      const local = await models.stage("tiny", options);
      const [near, served] = memoryChannel();
      void serveStage(served, new SharedStage(local), { ownsStage: false });
      const [client, far] = memoryChannel();
      const own = links.get(peer);
      if (own) servePushing({ near, far, links: own, hiddenSize, maxTokens: OPTIONS.maxTokens });
      return openedOver(client, peer, hiddenSize, "f32");
    },
  });
}
