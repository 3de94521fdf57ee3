/** A stage's first steps, which nobody waits for: what an answer needs of kernels is compiled then, on a software adapter for half a minute; and how long a token takes, as another peer sees it. */
import type { RemoteStage } from "@shoal/cluster";
import type { ModelConfig } from "@shoal/checkpoint";
import type { LayerRange } from "@shoal/model";

/** Tokens of a prompt, and steps after it: more rows at once are computed by other kernels than a few. */
const PROMPT = 32;
const STEPS = 3;

/**
 * Lets go of the stage at its end.
 * @param mtp whether the stage has the MTP module, and drafts
 * @returns the most tokens that it takes at once, and milliseconds of one through its layers, without the way there
 */
export async function warmUp(
  stage: RemoteStage,
  { hiddenSize, nLayers }: ModelConfig,
  { begin, end }: LayerRange,
  mtp: boolean,
): Promise<{ readonly maxTokens: number; readonly stepMs: number }> {
  const step = async (sequence: Awaited<ReturnType<RemoteStage["open"]>>, count: number): Promise<void> => {
    const tokens = Array.from({ length: count }, () => 0);
    const hidden = begin > 0 ? { hidden: new Float32Array(count * hiddenSize) } : {};
    if (mtp) {
      const following = [tokens.slice(1)];
      await stage.forwardDrafted({ entries: [{ sequence, tokens, ...hidden }], output: "sample" }, { guesses: [[]], following, drafts: 1 });
      return;
    }
    const { step: number } = await stage.forward({
      entries: [{ sequence, tokens, ...hidden }],
      output: end === nLayers ? "sample" : "hidden",
    });
    if (end === nLayers) await stage.sampled(number, 1);
  };
  const times: number[] = [];
  try {
    const { maxTokens, contextTokens } = await stage.describe();
    const sequence = await stage.open();
    await step(sequence, Math.max(1, Math.min(PROMPT, maxTokens, contextTokens - STEPS)));
    for (let i = 0; i < STEPS; i++) {
      const began = performance.now();
      await step(sequence, 1);
      times.push(performance.now() - began);
    }
    return { maxTokens, stepMs: Math.min(...times) };
  } finally {
    await stage.destroy();
  }
}
