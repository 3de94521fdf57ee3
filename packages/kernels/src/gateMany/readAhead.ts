/** Weights that a gate's dispatch reads for the next one, gate's and up's of all experts (shaders/lib/read_ahead.wgsl). */
import type { ShaderConstants } from "@shoal/gpu";
import type { ExpertGroup } from "../experts.ts";
import { CHUNK, FORMAT_BYTES, roundUp } from "../weights.ts";

/**
 * Of them all: a fraction of what a large GPU's cache holds, which takes no longer to read than the gate takes. On an H100 a step of 32 tokens of V2-Lite took 0.976 of its time so, as it did with a sixteenth
 * of these bytes or four times as many, and 0.989 with eight times as many. Most of that comes of the workgroups themselves: with such as read nothing it took 0.982. Why is not known; the same beside other
 * dispatches of few workgroups, which read the weights of the next ones, gave 1 % or nothing.
 */
const AHEAD_BYTES = 2 ** 22;
/** That are read if a word of them is. */
const PIECE_BYTES = 32;
const READ_LOADS = 8;
/** Workgroups that a large GPU has at once, about. */
const ROOM = 128;

export interface ReadAhead {
  /** Workgroups that read, for each token's own. */
  readonly readers: number;
  readonly constants: ShaderConstants;
  readonly buffers: Readonly<Record<string, GPUBuffer>>;
}

/** The first rows of gate and of up of each expert of a group's first page. */
export function readAhead({ gateUp: [page], format, hidden, width }: ExpertGroup, tokens: number): ReadAhead | undefined {
  if (!page) return undefined;
  const spans = 2 * page.experts;
  const period = width * roundUp(hidden, CHUNK) * FORMAT_BYTES[format];
  const pieces = Math.floor(Math.min(AHEAD_BYTES / spans, period) / PIECE_BYTES);
  if (pieces === 0) return undefined;
  return {
    readers: Math.max(1, Math.floor(ROOM / tokens) - 1),
    constants: { SPANS: spans, SPAN_PIECES: pieces, PERIOD: period / 4, READ_LOADS },
    buffers: { ahead: page.buffer },
  };
}
