// The power of two with which what gate and up make of a row is written as halves, settled before any of it is computed, by what the numbers cannot exceed: a weight is at most 448 scales, a product of
// weights and x the root of the sums of their squares, and silu(gate) * up |gate| |up|. That is 2^13 times what they are, or so, for weights that are alike, which f16 has room for.
//
// INPUTS columns of fp8 codes.

// Biased: of the power that brings them to less than 2^15, rounding included. @param scales the largest of gate times the largest of up @param squares of the row, summed
fn hidden_exponent(scales: f32, squares: f32) -> u32 {
  let most = scales * (448.0 * 448.0 * f32(INPUTS)) * squares;
  return min(267u - (bitcast<u32>(most) >> 23u), 151u);
}

// Of `hidden`'s rows, as lib/write_halves.wgsl writes it.
fn hidden_power(exponent: u32) -> vec4<u32> {
  return vec4<u32>((254u - exponent) << 23u, 0u, 0u, 0u);
}
