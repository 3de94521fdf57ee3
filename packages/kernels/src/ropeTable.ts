/**
 * Cosines and sines of rotary embedding. Computed here in f64, because GPU sin and cos may be wrong by 2^-11 (WGSL, "Accuracy of Built-in Functions"), and
 * worse for the large angles of late positions.
 */

/**
 * [positions, invFreq.length, 2]: cos, then sin, of position * invFreq, times `cosSinScale`. The angle is rounded to f32 first, as in all published code, whose positions and
 * frequencies are f32 tensors: an exact angle moves scores by 1e-6, which is enough to turn roundings of quantized activations.
 */
export function ropeTable(invFreq: ArrayLike<number>, positions: number, cosSinScale: number): Float32Array<ArrayBuffer> {
  const pairs = invFreq.length;
  const table = new Float32Array(positions * pairs * 2);
  for (let p = 0; p < positions; p++)
    for (let i = 0; i < pairs; i++) {
      const angle = Math.fround(p * (invFreq[i] ?? 0));
      table[(p * pairs + i) * 2] = Math.cos(angle) * cosSinScale;
      table[(p * pairs + i) * 2 + 1] = Math.sin(angle) * cosSinScale;
    }
  return table;
}
