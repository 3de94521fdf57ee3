// The experts' products for many tokens, as many.wgsl, by subgroup matrices (lib/matrix_tile.wgsl, which says how precisely).
//
// tiles, rows, weights, scales, output   as in many.wgsl; halves: the input as matrix/halves.wgsl splits it. Dispatch: (ceil(MATRICES OUTPUTS / TILE_N), an upper bound of the tiles) workgroups of THREADS;
// surplus workgroups, and those whose expert is not bound, exit. 16 FRAGMENTS_N divides 128, so that a subgroup's rows, of gate and of up, have one scale for 128 columns.
// Constants: those of many.wgsl, TILE_ROWS being at most TILE_M, and of lib/matrix_tile.wgsl. WEIGHT_FORMAT = "fp8" | "f16".
#include "lib/expert_units.wgsl"
#include "lib/matrix_tile.wgsl"

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> halves: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

// The tile, its expert, and the first of the outputs.
var<private> first: u32;
var<private> count: u32;
var<private> expert: u32;
var<private> page: u32;
var<private> place: u32;
var<private> first_column: u32;

// Outputs past the last repeat it: their sums are not written.
fn weight_row(n: u32) -> u32 {
#if GATE_UP
  let matrix = n / 16u % 2u;
  let column = n / 32u * 16u + n % 16u;
#else
  let matrix = 0u;
  let column = n;
#endif
  return (place * MATRICES + matrix) * OUTPUTS + min(first_column + column, OUTPUTS - 1u);
}

fn weight_vectors(at: array<u32, STAGED_VECTORS>) -> array<Unit, STAGED_VECTORS> {
  return page_units(page, at);
}

// Tiles that are not full repeat their last row.
fn row_number(m: u32) -> u32 {
  return rows[first + min(m, count - 1u)];
}

fn x_row(m: u32) -> u32 {
#if GATE_UP
  return row_number(m) / SLOTS;
#else
  return row_number(m);
#endif
}

fn block_scale(matrix: u32, n: u32, chunk: u32) -> f32 {
#if WEIGHT_FORMAT == fp8
  let row = min((first_column + n / MATRICES) / 128u, SCALE_ROWS - 1u);
  return scales[((expert * MATRICES + matrix) * SCALE_ROWS + row) * SCALE_COLUMNS + chunk / 8u];
#else
  return 1.0;
#endif
}

fn write_result(m: u32, n: u32, value: f32) {
  let column = first_column + n;
  if (m < count && column < OUTPUTS) {
    output[row_number(m) * OUTPUT_STRIDE + column] = value;
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (group.y >= tiles[0].x) {
    return;
  }
  let tile_entry = tiles[1u + group.y];
  if (!expert_bound(tile_entry.x)) {
    return;
  }
  expert = tile_entry.x;
  first = tile_entry.y;
  count = tile_entry.z;
  page = expert_page(expert);
  place = expert_in_page(expert);
  first_column = group.x * (TILE_N / MATRICES);
  multiply_tile(local, select(0u, CHUNKS, tile_entry.z > 0u));
}
