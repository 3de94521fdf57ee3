// Writes attended values, one at a time, as f32 or as halves. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read_write> out: array<f32>;    [tokens, OUT_STRIDE]
//
// with HALVES an array<f16>: rows as lib/matrix_halves.wgsl lays them out (HALVES_BLOCKS, HALVES_OCTETS a row, fp8's order of columns), rounded to f16. A row's power of two then goes by what values
// cannot exceed, for no workgroup knows all of a row: a weight is at most 448 scales, and a latent's squares add up to those of its norm's gamma at most.
//
// Constants: HALVES; OUT_STRIDE.
#if HALVES
#include "lib/matrix_halves.wgsl"

// The biased exponent of the power of two that brings values to less than 2^15. @param scale the largest of the weights'; @param gamma the largest
fn out_exponent(scale: f32, gamma: f32) -> u32 {
  let most = 448.0 * scale * f32(LATENT) * gamma;
  return min(267u - (bitcast<u32>(most) >> 23u), 151u);
}

// 1 / the power of two of a row, as f32 of which the lower half is zero; the upper one, taken for f16, is an ordinary number.
fn put_power(token: u32, exponent: u32) {
  let element = (HALVES_POWERS + token) * 8u;
  out[element] = 0.0h;
  out[element + 1u] = f16(unpack2x16float((254u - exponent) << 7u).x);
}
#endif

fn put_value(token: u32, column: u32, value: f32, power: f32) {
#if HALVES
  let octet = column / 8u;
  // Of columns of four the second and the third change places, as in lib/write_halves.wgsl.
  let place = token / 16u * (16u * HALVES_OCTETS) + octet / 2u * 32u + token % 16u * 2u + octet % 2u;
  // A cache may hold what no norm made.
  out[place * 8u + (column & 4u) + ((column & 1u) << 1u) + ((column & 2u) >> 1u)] = f16(clamp(value * power, -65504.0, 65504.0));
#else
  out[token * OUT_STRIDE + column] = value;
#endif
}
