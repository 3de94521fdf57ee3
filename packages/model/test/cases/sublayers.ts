/** The trained model with its layers' attention and MLP in one dispatch each, which large GPUs prefer and software adapters do not: greedy texts and drafts are the reference's all the same. */
import type { LocalStage } from "@shoal/model";
import { check, report } from "../support/compare.ts";
import { continuation, layerDispatches, prefill, withSequence } from "../support/drive.ts";
import { readGolden } from "../support/golden.ts";
import type { GpuTest, Models } from "../support/models.ts";

/** By the keys of `chooseVariant`: for the tiny model's shapes. */
export const SUBLAYERS: ReadonlyMap<string, string> = new Map([
  ["attentionSublayer/fp8/8x256", "whole256"],
  ["moeSublayer/fp8/5x128x256x32", "whole256"],
]);

/** What both take of a device. */
const LEAST = { subgroupSize: 8, storageBuffers: 15, workgroupBytes: 32_768, invocations: 256 };
const CASES = ["capital", "haystack600"];

export function sublayers(models: Models): readonly GpuTest[] {
  const texts = CASES.map((name) => ({
    name: `greedy continuation of '${name}' is the reference's with a sublayer a dispatch, and so are the MTP module's drafts`,
    run: async () => {
      const reference = await readGolden(`tiny-${name}.safetensors`);
      const ids = reference.ints("input_ids");
      const expected = reference.ints("greedy_w8a32");
      const on = await models.tiny("w8a32");
      await withSequence(on, async (sequence) => {
        await prefill(on, sequence, ids.slice(0, -1), { next: ids.slice(1) });
        const got = await continuation(on, sequence, ids.at(-1) ?? 0, expected.length, true);
        check(got.tokens.join() === expected.join(), `tokens ${got.tokens.join()}, expected ${expected.join()}`);
        const guesses = reference.ints("mtp_draft_greedy");
        check(got.drafts.join() === guesses.join(), `drafts ${got.drafts.join()}, expected ${guesses.join()}`);
      });
    },
  }));
  const layer = {
    name: "a small MoE layer of a decode step is 2 dispatches, where the device can",
    run: async () => {
      const on = await models.stage("tiny", { contextTokens: 2048, maxTokens: 4, layers: { begin: 2, end: 3 } });
      const shaders = (await layerDispatches(on)).map(({ shader }) => shader?.path ?? "");
      report(shaders.join(", "));
      const whole = shaders.filter((path) => path.startsWith("sublayer/"));
      check(canRunThem(on) ? whole.length === 2 && shaders.length === 2 : whole.length <= 1, `${shaders.join(", ")} were dispatched`);
    },
  };
  return [...texts, layer];
}

function canRunThem({ gpu: { dialect, limits } }: LocalStage): boolean {
  return (
    dialect.subgroups !== "none" &&
    dialect.subgroupSize >= LEAST.subgroupSize &&
    limits.maxStorageBuffersPerShaderStage >= LEAST.storageBuffers &&
    limits.maxComputeWorkgroupStorageSize >= LEAST.workgroupBytes &&
    limits.maxComputeInvocationsPerWorkgroup >= LEAST.invocations
  );
}
