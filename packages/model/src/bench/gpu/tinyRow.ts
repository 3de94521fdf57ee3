/** The embedded model, whose steps are too small for anything but launches to matter: decoding, after its known answer came out right. */
import type { CheckpointSource } from "@shoal/checkpoint";
import { isShortContext } from "@shoal/kernels";
import { decode, prefill } from "../run.ts";
import { encodeTime } from "../stepCost.ts";
import { verifiedTokens, verify } from "../verify.ts";
import type { Run } from "./run.ts";
import { type LoadedStage, stageRows } from "./stageRows.ts";
import type { Measured } from "./run.ts";
import { profileStep, warmSteps } from "./timing.ts";
import { stepWork } from "./work.ts";

export interface TinyModel {
  readonly checkpoint: () => Promise<CheckpointSource>;
  readonly promptIds: readonly number[];
  /** What greedy decoding of it must give first. */
  readonly expectedIds: readonly number[];
}

const KV_FORMAT = "f16";
const PROFILES = 5;
/** A sample takes less than a tenth of a second, and processors of rented machines run at half their speed for seconds at a time: on a GPU, where it is they that limit, it is sampled for so long. */
const SAMPLED_MS = 4000;

export async function tinyRow(run: Run, { checkpoint, promptIds, expectedIds }: TinyModel): Promise<void> {
  const { samples, warmUpTokens, model } = run.shapes;
  const { decodedTokens } = model;
  const before = promptIds.length + warmUpTokens;
  const contextTokens = Math.max(verifiedTokens(promptIds.length, expectedIds.length), before + decodedTokens + 1);
  const measure = async ({ stage, checkpoint }: LoadedStage): Promise<Measured> => {
    const { config, gpu } = stage;
    const { maxTokens, layers: range } = await stage.describe();
    const sequence = await stage.open();
    run.phase("tiny-decode", "verifying");
    const { comparedTokens } = await verify(stage, sequence, { config, mode: "w8a32", chunkTokens: maxTokens, promptIds, expectedIds });
    run.phase("tiny-decode", "timing");
    await prefill(stage, sequence, promptIds, maxTokens, "sample");
    await decode(stage, sequence, warmUpTokens, run.signal);
    const sample = async (): Promise<number> => {
      await stage.truncate(sequence, before);
      const begin = performance.now();
      await decode(stage, sequence, decodedTokens, run.signal);
      return (performance.now() - begin) / decodedTokens;
    };
    await warmSteps(gpu, sample, run.signal);
    const stepMs: number[] = [];
    const end = performance.now() + (gpu.adapter.isSoftware ? 0 : SAMPLED_MS);
    while (stepMs.length < samples || performance.now() < end) stepMs.push(await sample());
    const position = before + decodedTokens;
    const { routing = [] } = await stage.forward({
      entries: [{ sequence, tokens: "sampled" }],
      output: "sample",
      capture: { routing: true },
    });
    const short = isShortContext({ sequences: [sequence], positions: [position] });
    const shape = { kind: "forward", tokens: 1, outputs: 1, identity: true, choose: "greedy", capture: "nothing", short } as const;
    const commands = await stage.program(shape);
    const work = stepWork(checkpoint, {
      range,
      tokens: 1,
      outputs: 1,
      sequences: [{ before: position, tokens: 1 }],
      kvFormat: KV_FORMAT,
      routing,
      dispatches: commands.filter((command) => "pipeline" in command).length,
    });
    const verified = `the known answer, ${comparedTokens} tokens, decoded and by prefill alone`;
    return { stepMs, work, verified, encodeMs: encodeTime(gpu, commands), ...(await profileStep(gpu, commands, PROFILES)) };
  };
  const what = `the embedded model, 1 token a step after ${promptIds.length}`;
  const options = { contextTokens, kvFormat: KV_FORMAT } as const;
  await stageRows(run, { checkpoint, options }, [{ name: "tiny-decode", what, many: false, measure }]);
}
