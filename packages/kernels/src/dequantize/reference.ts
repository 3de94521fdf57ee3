/** Code times scale, rounded once to f32; `values` are the products in f64. */
export function dequantizeReference(values: Float64Array): Float32Array {
  return Float32Array.from(values);
}
