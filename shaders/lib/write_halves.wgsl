// Writes rows as lib/matrix_halves.wgsl lays them out: each number times a power of two, its row's, as one f16 number or as the sum of two.
// The including shader declares `var<storage, read_write> halves: array<vec4<u32>>`.
//
// The largest number of a row comes to between 4096 and 8192: what a pair loses is 2^-22 of a number or 2^-37 of the largest, less than f32 sums round.
// Constants: HALVES_PRODUCTS = 1 | 2: what rounding loses is left out, or written too; PERMUTED: columns of four are in the order in which fp8 codes are unpacked; HALVES_BLOCKS;
// those of lib/matrix_halves.wgsl.
#include "lib/matrix_halves.wgsl"
#include "lib/halves.wgsl"

fn packed(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
#if PERMUTED
  return vec4<u32>(pack2x16float(a.xz), pack2x16float(a.yw), pack2x16float(b.xz), pack2x16float(b.yw));
#else
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
#endif
}

fn largest_of(a: vec4<f32>) -> f32 {
  let pair = max(abs(a.xy), abs(a.zw));
  return max(pair.x, pair.y);
}

fn place_of(row: u32, octet: u32) -> u32 {
#if HALVES_BLOCKS
  return row / 16u * (16u * HALVES_OCTETS) + octet / 2u * 32u + row % 16u * 2u + octet % 2u;
#else
  return row * HALVES_OCTETS + octet;
#endif
}

// Eight columns of a row, already times its power of two.
fn write_octet(row: u32, octet: u32, a: vec4<f32>, b: vec4<f32>) {
  let place = place_of(row, octet);
  let near_a = rounded(a);
  let near_b = rounded(b);
  halves[place] = packed(near_a, near_b);
#if HALVES_PRODUCTS == 2
  halves[HALVES_REST + place] = packed(a - near_a, b - near_b);
#endif
}

// @param exponent of the row's power of two, biased (halves_exponent)
// @param squares their sum; 0 where nobody asks for it
fn write_power(row: u32, exponent: u32, squares: f32) {
  halves[HALVES_POWERS + row] = vec4<u32>(bitcast<u32>(power_of_two(254u - exponent)), bitcast<u32>(squares), 0u, 0u);
}
