/** GPU time by kernel of one step that decodes, on a stage that does nothing else meanwhile. */
import { isShortContext } from "@shoal/kernels";
import type { LocalStage } from "../localStage.ts";
import { type KernelTimes, kernelTimes } from "./kernelTimes.ts";
import { decode, prefill } from "./run.ts";

export type { KernelTime, KernelTimes } from "./kernelTimes.ts";

export interface DecodeTimesOptions {
  /** Positions before the token that is timed. */
  readonly positions?: number;
  readonly repeat?: number;
}

/** @returns null where the device has no timestamp queries */
export async function decodeTimes(stage: LocalStage, { positions = 64, repeat = 5 }: DecodeTimesOptions = {}): Promise<KernelTimes | null> {
  if (!stage.gpu.dialect.timestampQuery) return null;
  const { maxTokens } = await stage.describe();
  const sequence = await stage.open();
  try {
    const ids = Array.from({ length: positions }, (_, index) => index % stage.config.vocabSize);
    await prefill(stage, sequence, ids, maxTokens, "sample");
    // Leaves behind the inputs of such a step, so that running its commands again computes the same.
    await decode(stage, sequence, 1);
    const short = isShortContext({ sequences: [sequence], positions: [positions + 1] });
    const shape = { kind: "forward", tokens: 1, outputs: 1, identity: true, choose: "greedy", capture: "nothing", short } as const;
    const commands = await stage.program(shape);
    return (await kernelTimes(stage.gpu, commands, repeat)) ?? null;
  } finally {
    await stage.close(sequence);
  }
}
