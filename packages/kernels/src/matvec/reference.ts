/** Dense products and RMSNorm in f64, for comparison. */

/** y [tokens, rows] = x [tokens, cols] times the transpose of w [rows, cols]. */
export function linearReference(x: Float64Array, w: Float64Array, tokens: number, rows: number, cols: number): Float64Array {
  const y = new Float64Array(tokens * rows);
  for (let t = 0; t < tokens; t++)
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let k = 0; k < cols; k++) sum += (x[t * cols + k] ?? 0) * (w[r * cols + k] ?? 0);
      y[t * rows + r] = sum;
    }
  return y;
}

/** x * gamma / sqrt(mean(x^2) + epsilon), row by row. */
export function rmsNormReference(x: Float64Array, gamma: Float64Array, tokens: number, cols: number, epsilon: number): Float64Array {
  const y = new Float64Array(tokens * cols);
  for (let t = 0; t < tokens; t++) {
    let squares = 0;
    for (let k = 0; k < cols; k++) squares += (x[t * cols + k] ?? 0) ** 2;
    const factor = 1 / Math.sqrt(squares / cols + epsilon);
    for (let k = 0; k < cols; k++) y[t * cols + k] = (x[t * cols + k] ?? 0) * (gamma[k] ?? 0) * factor;
  }
  return y;
}
