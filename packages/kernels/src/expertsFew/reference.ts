/** The experts in f64, for comparison. */

/** The values of a group's weights: gate and up [count, width, hidden], down [count, hidden, width]. */
export interface ExpertValues {
  readonly hidden: number;
  readonly width: number;
  readonly gate: Float64Array;
  readonly up: Float64Array;
  readonly down: Float64Array;
}

export interface Route {
  readonly expert: number;
  readonly weight: number;
}

/** h [tokens * slots, width] = silu(W_gate x) * (W_up x); x [tokens, hidden], routes [tokens * slots]. */
export function gateUpReference(values: ExpertValues, x: Float64Array, routes: readonly Route[], slots: number): Float64Array {
  const { hidden, width, gate, up } = values;
  const h = new Float64Array(routes.length * width);
  for (const [row, { expert }] of routes.entries()) {
    const token = Math.floor(row / slots);
    for (let n = 0; n < width; n++) {
      let g = 0;
      let u = 0;
      for (let k = 0; k < hidden; k++) {
        const weight = (expert * width + n) * hidden + k;
        g += (gate[weight] ?? 0) * (x[token * hidden + k] ?? 0);
        u += (up[weight] ?? 0) * (x[token * hidden + k] ?? 0);
      }
      h[row * width + n] = (g / (1 + Math.exp(-g))) * u;
    }
  }
  return h;
}

/** [tokens * slots, hidden] = W_down h, unweighted. */
export function downReference(values: ExpertValues, h: Float64Array, routes: readonly Route[]): Float64Array {
  const { hidden, width, down } = values;
  const out = new Float64Array(routes.length * hidden);
  for (const [row, { expert }] of routes.entries())
    for (let n = 0; n < hidden; n++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += (down[(expert * hidden + n) * width + k] ?? 0) * (h[row * width + k] ?? 0);
      out[row * hidden + n] = sum;
    }
  return out;
}

/** y [tokens, hidden] = before + the weighted sum over slots of out [tokens * slots, hidden]. */
export function combineReference(out: Float64Array, routes: readonly Route[], slots: number, before: Float64Array): Float64Array {
  const hidden = out.length / routes.length;
  const y = Float64Array.from(before);
  for (const [row, { weight }] of routes.entries())
    for (let n = 0; n < hidden; n++) {
      const index = Math.floor(row / slots) * hidden + n;
      y[index] = (y[index] ?? 0) + weight * (out[row * hidden + n] ?? 0);
    }
  return y;
}
