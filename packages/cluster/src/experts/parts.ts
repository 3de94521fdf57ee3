/** A call of experts cut into what several shards are asked: each gets the rows that name an expert of its, and nothing else. Pure. */
import { type ExpertCall, NO_EXPERT } from "@shoal/model";

/** A row's part of a call for one shard. */
export interface CallPart {
  readonly rows: number[];
  readonly experts: number[][];
  readonly weights: number[][];
}

/** @param pairs numbers of (row, slot), ascending */
export function partOf(call: ExpertCall, pairs: readonly number[], slots: number): CallPart {
  const part: CallPart = { rows: [], experts: [], weights: [] };
  for (const pair of pairs) {
    const row = Math.floor(pair / slots);
    if (part.rows.at(-1) !== row) {
      part.rows.push(row);
      part.experts.push([]);
      part.weights.push([]);
    }
    part.experts.at(-1)?.push(call.experts[pair] ?? NO_EXPERT);
    part.weights.at(-1)?.push(call.weights[pair] ?? 0);
  }
  return part;
}

/** Rows keep the order that their experts have in the call, from the first slot on. */
export function subCall(call: ExpertCall, part: CallPart, slots: number, hidden: number): ExpertCall {
  const tokens = part.rows.length;
  const x = new Float32Array(tokens * hidden);
  const experts = new Uint32Array(tokens * slots).fill(NO_EXPERT);
  const weights = new Float32Array(tokens * slots);
  for (const [place, row] of part.rows.entries()) {
    x.set(call.x.subarray(row * hidden, (row + 1) * hidden), place * hidden);
    experts.set(part.experts[place] ?? [], place * slots);
    weights.set(part.weights[place] ?? [], place * slots);
  }
  return { layer: call.layer, tokens, slots, x, experts, weights };
}

/** Adds a part's rows [part.rows, hidden] to the sums [tokens, hidden]. */
export function addPart(sums: Float32Array, part: CallPart, rows: Float32Array, hidden: number): void {
  for (const [place, row] of part.rows.entries()) {
    const target = row * hidden;
    const source = place * hidden;
    for (let column = 0; column < hidden; column++) sums[target + column] = (sums[target + column] ?? 0) + (rows[source + column] ?? 0);
  }
}
