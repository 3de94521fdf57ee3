/** What a layer's attention and MLP read. */
import type { BufferRange } from "@shoal/gpu";
import type { NormedInput, Recorder } from "../recorder.ts";

/** The residual stream through a norm. @param written whether the norm is written out, not fused into products of few tokens */
export function residualInput(recorder: Recorder, gamma: BufferRange, epsilon: number, label: string, written = false): NormedInput {
  const { residual, normed, quantized } = recorder.activations;
  return recorder.normedInput({ input: residual, columns: recorder.config.hiddenSize, gamma, epsilon, normed, quantized }, label, written);
}
