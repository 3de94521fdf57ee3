// RMSNorm of rows of the residual stream as rmsNorm.wgsl has it, in the forms that products want; with ADD, after adding what experts gave.
//
// x       [tokens, X_STRIDE] f32, columns 0 .. COLS. With ADD sums over slots, in their order, of weight * out[token, slot] are added to it first, and stored
// gamma   [ceil(COLS / 4) * 4] f32
// y       [tokens, Y_STRIDE] f32, with PLAIN; written to the next multiple of 4, zeros beyond COLS
// halves  with HALVES, as lib/matrix_halves.wgsl lays them out
// routing [tokens, SLOTS] of (expert, weight as f32 bits), and out [tokens * SLOTS, OUT_STRIDE] f32, with ADD
//
// Dispatch: one workgroup of WORKGROUP a token. Strides are multiples of 4. OCTETS of eight columns a row, an invocation has up to OWN_OCTETS of them: OWN_VECTORS = 2 OWN_OCTETS.
// Constants: with HALVES also those of lib/write_halves.wgsl, HALVES_OCTETS being OCTETS. Numerics: f32.
#include "lib/rms.wgsl"
#if HALVES
#include "lib/write_halves.wgsl"
#endif

const VECTORS: u32 = (COLS + 3u) / 4u;

#if ADD
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> out: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#endif
@group(0) @binding(3) var<storage, read> gamma: array<vec4<f32>>;
#if PLAIN
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
#endif
#if HALVES
@group(0) @binding(5) var<storage, read_write> halves: array<vec4<u32>>;

var<workgroup> largest: atomic<u32>;
#endif

// Which of a row an invocation's vector number i is.
fn vector_of(i: u32, local: u32) -> u32 {
  return 2u * (local + i / 2u * WORKGROUP) + i % 2u;
}

// Zero beyond the last column.
fn within(vector: u32, value: vec4<f32>) -> vec4<f32> {
  return select(vec4<f32>(0.0), value, vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(COLS));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
  let token = group.x;
  let x_base = token * X_STRIDE / 4u;
  var row: array<vec4<f32>, OWN_VECTORS>;
#unroll i < OWN_VECTORS
  row[i] = within(vector_of(i, local), x[x_base + min(vector_of(i, local), VECTORS - 1u)]);
#endunroll
#if ADD
  var sums: array<vec4<f32>, OWN_VECTORS>;
  for (var slot = 0u; slot < SLOTS; slot++) {
    let weight = bitcast<f32>(routing[token * SLOTS + slot].y);
    let base = (token * SLOTS + slot) * OUT_STRIDE / 4u;
#unroll i < OWN_VECTORS
    sums[i] += weight * out[base + min(vector_of(i, local), VECTORS - 1u)];
#endunroll
  }
#unroll i < OWN_VECTORS
  row[i] = within(vector_of(i, local), row[i] + sums[i]);
  if (vector_of(i, local) < VECTORS) {
    x[x_base + vector_of(i, local)] = row[i];
  }
#endunroll
#endif
  var squares = no_squares();
#unroll i < OWN_VECTORS
  squares = add_squares(squares, row[i]);
#endunroll
  let factor = rms_factor(squares, local, COLS);
#unroll i < OWN_VECTORS
  row[i] = (row[i] * factor) * gamma[min(vector_of(i, local), VECTORS - 1u)];
#endunroll
#if PLAIN
#unroll i < OWN_VECTORS
  if (vector_of(i, local) < VECTORS) {
    y[token * Y_STRIDE / 4u + vector_of(i, local)] = row[i];
  }
#endunroll
#endif
#if HALVES
  var most = 0.0;
#unroll i < OWN_VECTORS
  most = max(most, largest_of(row[i]));
#endunroll
  // Numbers that are not negative sort as their bits do.
  atomicMax(&largest, bitcast<u32>(most));
  workgroupBarrier();
  let exponent = halves_exponent(bitcast<f32>(atomicLoad(&largest)));
  let power = power_of_two(exponent);
#unroll i < OWN_OCTETS
  if (local + i * WORKGROUP < OCTETS) {
    write_octet(token, local + i * WORKGROUP, row[2u * i] * power, row[2u * i + 1u] * power);
  }
#endunroll
  if (local == 0u) {
    write_power(token, exponent);
  }
#endif
}
