// The experts' products for many tokens, a tile of rows of one expert (group_tokens.wgsl) times a block of its weights (lib/block.wgsl):
// while a block is multiplied the next is on its way to registers.
//
// With GATE_UP: output[row] = silu(W_gate input[row / SLOTS]) * (W_up input[row / SLOTS]); without: output[row] = W input[row];
// row = token * SLOTS + slot.
//
// tiles, rows  as group_tokens.wgsl writes them, of up to TILE_ROWS = BLOCK_TOKENS rows
// input   [tokens or tokens * SLOTS, INPUT_STRIDE] f32, columns 0 .. 16 CHUNKS, zero beyond the weights' columns
// weights for each expert: MATRICES (gate, up; or down) of [OUTPUTS, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales  [experts, MATRICES, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// output  [tokens * SLOTS, OUTPUT_STRIDE] f32, columns 0 .. OUTPUTS
//
// Dispatch: (ceil(OUTPUTS * MATRICES / BLOCK_ROWS), an upper bound of the tiles) workgroups of BLOCK_THREADS; surplus workgroups, and those
// whose expert is not bound, exit. With GATE_UP half of a block's rows are gate's, the other half the same rows of up.
// Numerics: an fp8 weight times its scale is rounded once to f32 when it is staged; sums are f32, one fused multiplication and addition
// after another along K.
#include "lib/block.wgsl"
#include "lib/expert_pages.wgsl"
#include "lib/silu.wgsl"

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

const QUADS: u32 = CHUNKS * 4u;
// Outputs of a workgroup.
const COLUMNS: u32 = BLOCK_ROWS / MATRICES;

// Where a workgroup's weights are.
struct Place {
  expert: u32,
  page: u32,
  // The expert's first matrix in its page.
  matrix: u32,
  first_column: u32,
}

fn weight_word(page: u32, word: u32) -> u32 {
  return page_word(page, word);
}

// The matrix that a unit is of, and its first row there; outputs beyond the last repeat it, and are never written.
fn unit_row(place: Place, unit: u32) -> vec2<u32> {
  let row = unit / BLOCK_QUADS * 4u;
  return vec2<u32>(row / COLUMNS, place.first_column + row % COLUMNS);
}

fn load_weights(place: Place, unit: u32, start: u32) -> array<vec4<u32>, QUAD_WORDS> {
  let at = unit_row(place, unit);
  let weight_rows = min(vec4<u32>(at.y) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(OUTPUTS - 1u));
  let first = (place.matrix + at.x) * OUTPUTS;
  return load_quads(place.page, (first + weight_rows) * QUADS + min(start + unit % BLOCK_QUADS, QUADS - 1u));
}

// Four rows from a multiple of four share a scale.
fn load_factor(place: Place, unit: u32, start: u32) -> f32 {
#if WEIGHT_FORMAT == fp8
  let at = unit_row(place, unit);
  let line = (place.expert * MATRICES + at.x) * SCALE_ROWS + min(at.y, OUTPUTS - 1u) / 128u;
  return WEIGHT_FACTOR * scales[line * SCALE_COLUMNS + min(start + unit % BLOCK_QUADS, QUADS - 1u) / 32u];
#else
  return WEIGHT_FACTOR;
#endif
}

fn load_input(input_rows: vec4<u32>, quad: u32) -> mat4x4<f32> {
  let at = input_rows + min(quad, QUADS - 1u);
  return transpose(mat4x4<f32>(input[at.x], input[at.y], input[at.z], input[at.w]));
}

fn store(tile: vec4<u32>, row: u32, column: u32, values: vec4<f32>) {
  if (row >= tile.z) {
    return;
  }
  let index = rows[tile.y + row] * OUTPUT_STRIDE + column;
  for (var i = 0u; i < 4u; i++) {
    if (column + i < OUTPUTS) {
      output[index + i] = values[i];
    }
  }
}

#if GATE_UP
fn activate(gate: vec4<f32>, up: vec4<f32>) -> vec4<f32> {
  return vec4<f32>(silu(gate.x), silu(gate.y), silu(gate.z), silu(gate.w)) * up;
}
#endif

// Four rows' outputs: from gate and up those of one column on, otherwise those of two.
fn store_rows(tile: vec4<u32>, row: u32, column: u32, low: mat4x4<f32>, high: mat4x4<f32>) {
#if GATE_UP
  store(tile, row, column, activate(low[0], high[0]));
  store(tile, row + 1u, column, activate(low[1], high[1]));
  store(tile, row + 2u, column, activate(low[2], high[2]));
  store(tile, row + 3u, column, activate(low[3], high[3]));
#else
  store(tile, row, column, low[0]);
  store(tile, row, column + BLOCK_ROWS / 2u, high[0]);
  store(tile, row + 1u, column, low[1]);
  store(tile, row + 1u, column + BLOCK_ROWS / 2u, high[1]);
  store(tile, row + 2u, column, low[2]);
  store(tile, row + 2u, column + BLOCK_ROWS / 2u, high[2]);
  store(tile, row + 3u, column, low[3]);
  store(tile, row + 3u, column + BLOCK_ROWS / 2u, high[3]);
#endif
}

@compute @workgroup_size(BLOCK_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (group.y >= tiles[0].x) {
    return;
  }
  let tile = tiles[1u + group.y];
  if (!expert_bound(tile.x)) {
    return;
  }
  let place = Place(tile.x, expert_page(tile.x), expert_in_page(tile.x) * MATRICES, group.x * COLUMNS);
  let column = local % THREADS_X;
  let row = local / THREADS_X * THREAD_TOKENS;
  // Invocations whose rows are all past the end only stage.
  let multiplies = row < tile.z;
  let input_quad = local % BLOCK_QUADS;
  let tile_rows = min(vec4<u32>(local / BLOCK_QUADS * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(tile.z - 1u)) + tile.y;
  var input_rows = vec4<u32>(rows[tile_rows.x], rows[tile_rows.y], rows[tile_rows.z], rows[tile_rows.w]);
#if GATE_UP
  input_rows /= SLOTS;
#endif
  input_rows *= INPUT_STRIDE / 4u;

  var next_weights: array<array<vec4<u32>, QUAD_WORDS>, THREAD_UNITS>;
  var factors: array<f32, THREAD_UNITS>;
  for (var i = 0u; i < THREAD_UNITS; i++) {
    next_weights[i] = load_weights(place, local + i * BLOCK_THREADS, 0u);
    factors[i] = load_factor(place, local + i * BLOCK_THREADS, 0u);
  }
  var next_input = load_input(input_rows, input_quad);
  var sums: Sums;
  for (var start = 0u; start < QUADS; start += BLOCK_QUADS) {
    for (var i = 0u; i < THREAD_UNITS; i++) {
      stage_weight_quads(local + i * BLOCK_THREADS, decode_quads(next_weights[i]) * factors[i]);
    }
    if (local < X_UNITS) {
      stage_x_quads(local, next_input);
    }
    workgroupBarrier();
    let following = start + BLOCK_QUADS;
    if (following < QUADS) {
      for (var i = 0u; i < THREAD_UNITS; i++) {
        next_weights[i] = load_weights(place, local + i * BLOCK_THREADS, following);
        factors[i] = load_factor(place, local + i * BLOCK_THREADS, following);
      }
      if (local < X_UNITS) {
        next_input = load_input(input_rows, following + input_quad);
      }
    }
    if (multiplies) {
      sums = multiply_block(sums, column, row / THREAD_TOKENS, min(BLOCK_QUADS, QUADS - start));
    }
    workgroupBarrier();
  }
  let output_column = place.first_column + column * 4u;
  store_rows(tile, row, output_column, sums.low0, sums.high0);
#if THREAD_TOKENS == 8
  store_rows(tile, row + 4u, output_column, sums.low1, sums.high1);
#endif
}
