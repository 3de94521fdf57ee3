// RMSNorm of a row of the residual stream by a workgroup of WORKGROUP, in the forms that products want; with ADD, after adding what experts gave.
//
// Needs in the including shader, besides lane_count and lane (lib/reduce.wgsl):
//
//   @group(0) @binding(n) var<storage, read> x: array<vec4<f32>>;              [tokens, X_STRIDE] f32, columns 0 .. COLS; read_write with ADD
//   @group(0) @binding(n) var<storage, read> gamma: array<vec4<f32>>;          [ceil(COLS / 4) * 4] f32
//   @group(0) @binding(n) var<storage, read_write> y: array<vec4<f32>>;        [tokens, Y_STRIDE] f32, with PLAIN; written to the next multiple of 4, zeros beyond COLS
//   @group(0) @binding(n) var<storage, read_write> halves: array<vec4<u32>>;   with HALVES, as lib/matrix_halves.wgsl lays them out
//   @group(0) @binding(n) var<storage, read> routing: array<vec2<u32>>;        [tokens, SLOTS] of (expert, weight as f32 bits), with ADD
//   @group(0) @binding(n) var<storage, read> out: array<vec4<f32>>;            [tokens * SLOTS, OUT_STRIDE] f32, with ADD
//
// Strides are multiples of 4. OCTETS of eight columns a row; an invocation has up to OWN_OCTETS of them: OWN_VECTORS = 2 OWN_OCTETS.
// Constants: with ADD SLOTS_AHEAD and GIVEN = SLOTS_AHEAD OWN_VECTORS; with HALVES also those of lib/write_halves.wgsl, HALVES_OCTETS being OCTETS. Numerics: f32.
#include "lib/reduce.wgsl"
#if HALVES
#include "lib/write_halves.wgsl"

var<workgroup> largest: atomic<u32>;
#endif

const VECTORS: u32 = (COLS + 3u) / 4u;

// An invocation's share of the row.
var<private> own_row: array<vec4<f32>, OWN_VECTORS>;
// The sum of the normalized row's squares.
var<private> own_squares: f32;

// Which of a row an invocation's vector number i is.
fn vector_of(i: u32, local: u32) -> u32 {
  return 2u * (local + i / 2u * WORKGROUP) + i % 2u;
}

// Zero beyond the last column.
fn within(vector: u32, value: vec4<f32>) -> vec4<f32> {
  return select(vec4<f32>(0.0), value, vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(COLS));
}

// Sets `own_row`, normalized; zero beyond the last column. With ADD sums over slots, in their order, of weight * out[token, slot] are added to x first, and stored.
fn norm_row(token: u32, local: u32) {
  let x_base = token * X_STRIDE / 4u;
#unroll i < OWN_VECTORS
  own_row[i] = within(vector_of(i, local), x[x_base + min(vector_of(i, local), VECTORS - 1u)]);
#endunroll
#if ADD
  var sums: array<vec4<f32>, OWN_VECTORS>;
  for (var slot = 0u; slot < SLOTS; slot += SLOTS_AHEAD) {
    // All of them are under way before the first is added.
    var given: array<vec4<f32>, GIVEN>;
#unroll s < SLOTS_AHEAD
    let from_row = token * SLOTS + min(slot + s, SLOTS - 1u);
    let weight = bitcast<f32>(routing[from_row].y);
#unroll i < OWN_VECTORS
    given[s * OWN_VECTORS + i] = weight * out[from_row * OUT_STRIDE / 4u + min(vector_of(i, local), VECTORS - 1u)];
#endunroll
#endunroll
#unroll s < SLOTS_AHEAD
#unroll i < OWN_VECTORS
    sums[i] += select(vec4<f32>(0.0), given[s * OWN_VECTORS + i], slot + s < SLOTS);
#endunroll
#endunroll
  }
#unroll i < OWN_VECTORS
  own_row[i] = within(vector_of(i, local), own_row[i] + sums[i]);
  if (vector_of(i, local) < VECTORS) {
    x[x_base + vector_of(i, local)] = own_row[i];
  }
#endunroll
#endif
  // Of the row, and of what it is before the norm's factor multiplies it.
  var squares = vec4<f32>(0.0);
#unroll i < OWN_VECTORS
  let scaled = own_row[i] * gamma[min(vector_of(i, local), VECTORS - 1u)];
  squares += vec4<f32>(dot(own_row[i], own_row[i]), dot(scaled, scaled), 0.0, 0.0);
#endunroll
  squares = workgroup_sum4(squares, local);
  let factor = inverseSqrt(squares.x / f32(COLS) + EPSILON);
  own_squares = squares.y * (factor * factor);
#unroll i < OWN_VECTORS
  own_row[i] = (own_row[i] * factor) * gamma[min(vector_of(i, local), VECTORS - 1u)];
#endunroll
}

// Writes `own_row` as PLAIN says.
fn write_plain(token: u32, local: u32) {
#if PLAIN
#unroll i < OWN_VECTORS
  if (vector_of(i, local) < VECTORS) {
    y[token * Y_STRIDE / 4u + vector_of(i, local)] = own_row[i];
  }
#endunroll
#endif
}

#if HALVES
// Of the power of two with which `own_row` is written as halves, biased. Must be reached in uniform control flow, once by a workgroup.
fn row_exponent() -> u32 {
  var most = 0.0;
#unroll i < OWN_VECTORS
  most = max(most, largest_of(own_row[i]));
#endunroll
  // Numbers that are not negative sort as their bits do.
#if SUBGROUPS
  most = subgroupMax(most);
  if (lane == 0u) {
    atomicMax(&largest, bitcast<u32>(most));
  }
#else
  atomicMax(&largest, bitcast<u32>(most));
#endif
  workgroupBarrier();
  return halves_exponent(bitcast<f32>(atomicLoad(&largest)));
}
#endif

// Writes `own_row`. Must be reached in uniform control flow.
fn write_forms(token: u32, local: u32) {
  write_plain(token, local);
#if HALVES
  let exponent = row_exponent();
  let power = power_of_two(exponent);
#unroll i < OWN_OCTETS
  if (local + i * WORKGROUP < OCTETS) {
    write_octet(token, local + i * WORKGROUP, own_row[2u * i] * power, own_row[2u * i + 1u] * power);
  }
#endunroll
  if (local == 0u) {
    write_power(token, exponent, own_squares);
  }
#endif
}
