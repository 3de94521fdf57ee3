// The experts' products for a batch, as rows.wgsl, by subgroup matrices a strip of weights at a time (lib/matrix_strip.wgsl, which says how precisely).
//
// tiles, rows, weights, scales, output   as in many.wgsl; halves: the rows of each tile as matrix/halves.wgsl splits them, with TILED, or as
// lib/place_rows.wgsl places them, the last of a tile's numbers being its block of 16. A tile has up to 16 rows. Dispatch:
// (ceil(OUTPUTS MATRICES / (16 FRAGMENTS)), an upper bound of the tiles) workgroups of THREADS, with TILES_FIRST the other way round; surplus workgroups, and those whose expert is not bound, exit.
// 16 FRAGMENTS divides 128, so that a strip's rows, of gate and of up, have one scale for 128 columns.
// With HALVES_OUTPUT outputs are written as down's halves instead (lib/matrix_halves.wgsl: HALVES_BLOCKS, OUTPUT_OCTETS a row, fp8's order of columns), rounded to f16, times powers of two that were settled before (lib/hidden_power.wgsl).
// With FEW tiles of up to FEW_ROWS rows are multiplied by loops (lib/few_rows.wgsl).
// Constants: those of many.wgsl and of lib/matrix_strip.wgsl; with FEW those of lib/few_rows.wgsl, and TEAM_LOADS = TEAM_ROWS / LOADS; TOKEN_FRAGMENTS is 1. With GATE_UP FRAGMENTS is even.
#include "lib/expert_units.wgsl"
#include "lib/matrix_strip.wgsl"
#if FEW
#include "lib/few_rows.wgsl"
#endif

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> halves: array<vec4<u32>>;
#if HALVES_OUTPUT
@group(0) @binding(3) var<storage, read_write> output: array<f16>;
#else
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> scales: array<f32>;

// The tile's block of the halves, its expert, and the first of the outputs.
var<private> tile_block: u32;
var<private> first: u32;
var<private> count: u32;
var<private> expert: u32;
var<private> page: u32;
var<private> place: u32;
var<private> first_column: u32;

// Outputs past the last repeat it: their sums are not written.
fn weight_row(fragment: u32, n: u32) -> u32 {
#if GATE_UP
  return (place * MATRICES + fragment % 2u) * OUTPUTS + min(first_column + fragment / 2u * 16u + n, OUTPUTS - 1u);
#else
  return place * OUTPUTS + min(first_column + 16u * fragment + n, OUTPUTS - 1u);
#endif
}

fn weight_vectors(at: array<u32, LOADS>) -> array<Unit, LOADS> {
  return page_units(page, at);
}

#if FEW
// All loads at once.
fn few_vectors(at: array<u32, TEAM_ROWS>) -> array<Unit, TEAM_ROWS> {
  var words: array<Unit, TEAM_ROWS>;
#unroll part < TEAM_LOADS
  var own: array<u32, LOADS>;
#unroll i < LOADS
  own[i] = at[part * LOADS + i];
#endunroll
  let loaded = page_units(page, own);
#unroll i < LOADS
  words[part * LOADS + i] = loaded[i];
#endunroll
#endunroll
  return words;
}
#endif

fn first_block() -> u32 {
  return tile_block;
}

fn block_scale(fragment: u32, block: u32) -> f32 {
  let row = min(first_column / 128u, SCALE_ROWS - 1u);
#if GATE_UP
  return scales[((expert * MATRICES + fragment % 2u) * SCALE_ROWS + row) * SCALE_COLUMNS + block];
#else
  return scales[(expert * SCALE_ROWS + row) * SCALE_COLUMNS + block];
#endif
}

fn write_result(m: u32, n: u32, value: f32) {
  let column = first_column + n;
  if (m < count && column < OUTPUTS) {
#if HALVES_OUTPUT
    let exponent = halves[HALVES_POWERS + tile_block * 16u + m].z;
    let octet = column / 8u;
    // Of columns of four the second and the third change places, as in lib/write_halves.wgsl.
    let place = tile_block * 16u * OUTPUT_OCTETS + octet / 2u * 32u + m * 2u + octet % 2u;
    output[place * 8u + (column & 4u) + ((column & 1u) << 1u) + ((column & 2u) >> 1u)] = f16(value * bitcast<f32>(exponent << 23u));
#else
    output[rows[first + m] * OUTPUT_STRIDE + column] = value;
#endif
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#if TILES_FIRST
  let tile_number = group.x;
  let strip = group.y;
#else
  let tile_number = group.y;
  let strip = group.x;
#endif
  if (tile_number >= tiles[0].x) {
    return;
  }
  let tile_entry = tiles[1u + tile_number];
  if (!expert_bound(tile_entry.x)) {
    return;
  }
  tile_block = tile_entry.w;
  expert = tile_entry.x;
  first = tile_entry.y;
  count = tile_entry.z;
  page = expert_page(expert);
  place = expert_in_page(expert);
  first_column = strip * (16u * FRAGMENTS / MATRICES);
#if FEW
  if (tile_entry.z <= FEW_ROWS) {
    multiply_few(local, tile_entry.z, select(0u, ROW_VECTORS, tile_entry.z > 0u), select(0u, 2u, tile_entry.z > 0u));
    return;
  }
#endif
  multiply_strip(local, select(0u, BLOCKS, tile_entry.z > 0u));
}
