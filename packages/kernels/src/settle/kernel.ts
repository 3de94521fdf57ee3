/**
 * Verified steps that follow one another without the host: which drafts were right is settled on the device (shaders/settle/settle.wgsl), and the rows of the next step take their
 * places from there (embedding/kernel.ts).
 */
import type { Dispatch, GpuContext } from "@shoal/gpu";
import { MAX_DRAFTS, type Step } from "../batch.ts";

export function settledBytes(maxSequences: number): number {
  return maxSequences * 8;
}

export interface SettleDraftsSpec {
  readonly step: Step;
  /** [.., ringRows] u32, as `sample` leaves it. */
  readonly ring: GPUBuffer;
  readonly ringRows: number;
  /** `settledBytes`: for each sequence slot, the position of the first row last verified, and how many of its drafts were right. */
  readonly settled: GPUBuffer;

  /** The tokens last drafted for each sequence slot: [MAX_DRAFTS, draftStride] u32. */
  readonly lastDrafts: GPUBuffer;
  readonly draftStride: number;
  /** The token last sampled for each, u32. */
  readonly lastTokens: GPUBuffer;
  readonly label?: string;
}

/** After `sample` and whatever else looks at the chosen tokens of the step. */
export async function settleDrafts(gpu: GpuContext, spec: SettleDraftsSpec): Promise<readonly Dispatch[]> {
  const { step, ring, ringRows, settled, lastDrafts, draftStride, lastTokens, label = "settleDrafts" } = spec;
  const constants = { MAX_TOKENS: step.maxTokens, RING_ROWS: ringRows, MAX_DRAFTS, DRAFT_STRIDE: draftStride };
  const kernel = await gpu.kernel("settle/settle.wgsl", constants, label);
  return [kernel.dispatch({ batch: step.batch, last_drafts: lastDrafts, ring, latest: lastTokens, settled }, [1, 1, 1])];
}
