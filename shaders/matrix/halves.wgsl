// Rows of x as lib/matrix_tile.wgsl multiplies them: each number times a power of two as the sum of two f16 numbers, the power of two being its row's.
//
// x       [rows, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 8 OCTETS
// halves  as lib/matrix_halves.wgsl lays them out
// Dispatch: (rows up to 65535, more of them) workgroups of WORKGROUP.
//
// The largest number of a row comes to between 4096 and 8192: what the pair loses is 2^-22 of a number or 2^-37 of the largest, less than f32 sums round.
// Columns of four are in the order in which fp8 codes are unpacked, with PERMUTED.
#include "lib/matrix_halves.wgsl"
#include "lib/halves.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> halves: array<vec4<u32>>;

var<workgroup> largest: atomic<u32>;

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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.x + group.y * 65535u;
  if (row >= HALVES_ROWS) {
    return;
  }
  let base = (row * X_STRIDE + X_OFFSET) / 4u;
  var most = 0.0;
  for (var octet = local; octet < OCTETS; octet += WORKGROUP) {
    most = max(most, max(largest_of(x[base + 2u * octet]), largest_of(x[base + 2u * octet + 1u])));
  }
  // Numbers that are not negative sort as their bits do.
  atomicMax(&largest, bitcast<u32>(most));
  workgroupBarrier();
  let exponent = halves_exponent(bitcast<f32>(atomicLoad(&largest)));
  let power = power_of_two(exponent);
  let place = row * HALVES_OCTETS;
  for (var octet = local; octet < HALVES_OCTETS; octet += WORKGROUP) {
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    if (octet < OCTETS) {
      a = x[base + 2u * octet] * power;
      b = x[base + 2u * octet + 1u] * power;
    }
    let near_a = rounded(a);
    let near_b = rounded(b);
    halves[place + octet] = packed(near_a, near_b);
    halves[HALVES_REST + place + octet] = packed(a - near_a, b - near_b);
  }
  if (local == 0u) {
    halves[HALVES_POWERS + row] = vec4<u32>(bitcast<u32>(power_of_two(254u - exponent)), 0u, 0u, 0u);
  }
}
