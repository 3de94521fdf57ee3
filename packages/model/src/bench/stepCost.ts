/** What one step costs, from the list of its dispatches, and what the CPU spends on encoding it. */
import { type Command, type GpuContext, dispatchesOf, encodeCommands } from "@shoal/gpu";
import type { PagedKvCache } from "../kvCache.ts";
import { median } from "./median.ts";

export interface StepCost {
  readonly tokens: number;
  readonly dispatches: number;
  /**
   * Sum of what the dispatches say they read: every weight that the step uses, once (of routed experts as many as could be chosen, as if no two tokens
   * shared one), and inputs and outputs of the small kernels. Not the KV cache.
   */
  readonly bytes: number;
  /** Bytes of the KV cache that attention reads, each position once. */
  readonly kvCacheBytes: number;
  /** CPU time to encode the step's commands into a command buffer, milliseconds. */
  readonly encodeMs: number;
}

const ENCODINGS = 15;

export function stepCost(gpu: GpuContext, commands: readonly Command[], tokens: number, kvCacheBytes: number): StepCost {
  const dispatches = dispatchesOf(commands);
  const bytes = dispatches.reduce((sum, dispatch) => sum + (dispatch.bytes ?? 0), 0);
  return { tokens, dispatches: dispatches.length, bytes, kvCacheBytes, encodeMs: encodeTime(gpu, commands) };
}

/** Median CPU time to encode commands into a command buffer, milliseconds. */
export function encodeTime(gpu: GpuContext, commands: readonly Command[]): number {
  const samples: number[] = [];
  for (let i = 0; i < ENCODINGS; i++) {
    const begin = performance.now();
    const encoder = gpu.device.createCommandEncoder();
    encodeCommands(encoder, commands);
    encoder.finish();
    samples.push(performance.now() - begin);
  }
  return median(samples);
}

/** Bytes that a sequence of so many positions takes in the cache, over all layers of a stage. */
export function kvCacheBytes({ layers }: Pick<PagedKvCache, "layers">, positions: number): number {
  return layers.reduce((sum, { rowBytes }) => sum + positions * rowBytes, 0);
}
