/** out [rows.length, cols] = the named rows of x. */
export function gatherRowsReference(x: Float64Array, cols: number, rows: readonly number[]): Float64Array {
  const out = new Float64Array(rows.length * cols);
  for (const [i, row] of rows.entries()) out.set(x.subarray(row * cols, (row + 1) * cols), i * cols);
  return out;
}
