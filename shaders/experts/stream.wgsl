// The experts' products for up to some tens of tokens, where an expert has few rows: a workgroup streams four rows of an expert's weights
// past a tile of up to 8 rows (group_tokens.wgsl). Only the rows that there are cost arithmetic.
//
// With GATE_UP: output[row] = silu(W_gate input[row / SLOTS]) * (W_up input[row / SLOTS]); without: output[row] = W input[row];
// row = token * SLOTS + slot.
//
// tiles, rows  as group_tokens.wgsl writes them, of up to TILE_ROWS <= 8 rows
// input   [tokens or tokens * SLOTS, INPUT_STRIDE] f32, columns 0 .. 16 CHUNKS, zero beyond the weights' columns
// weights for each expert: MATRICES (gate, up; or down) of [OUTPUTS, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales  [experts, MATRICES, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// output  [tokens * SLOTS, OUTPUT_STRIDE] f32, columns 0 .. OUTPUTS
//
// Dispatch: (ceil(OUTPUTS * MATRICES / 4), an upper bound of the tiles) workgroups of WORKGROUP; surplus workgroups, and those whose expert
// is not bound, exit.
// With GATE_UP a workgroup has two rows of gate and the same two of up.
// Numerics: f32; a 128-block's scale multiplies partial sums.
#include "lib/expert_pages.wgsl"
#include "lib/stream.wgsl"
#include "lib/silu.wgsl"

// Outputs of a workgroup.
const COLUMNS: u32 = 4u / MATRICES;

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

// Where row number `row` of the tile starts in the input; rows past the last repeat it.
fn input_row(tile: vec4<u32>, row: u32) -> u32 {
  let source = rows[tile.y + min(row, tile.z - 1u)];
#if GATE_UP
  return source / SLOTS * (INPUT_STRIDE / 4u);
#else
  return source * (INPUT_STRIDE / 4u);
#endif
}

fn products(weights_by_column: array<mat4x4<f32>, 4>, base: u32, chunk: u32) -> vec4<f32> {
  let at = base + chunk * 4u;
  return chunk_products(weights_by_column, input[at], input[at + 1u], input[at + 2u], input[at + 3u]);
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  if (group.y >= tiles[0].x) {
    return;
  }
  let tile = tiles[1u + group.y];
  let expert = tile.x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let count = tile.z;
  let first = group.x * COLUMNS;
  // The last workgroup repeats the last row rather than reading past the end.
#if GATE_UP
  let gate_rows = min(vec2<u32>(first) + vec2<u32>(0u, 1u), vec2<u32>(OUTPUTS - 1u));
  let weight_rows = vec4<u32>(gate_rows, gate_rows + OUTPUTS);
#else
  let weight_rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(OUTPUTS - 1u));
#endif
  let chunks = (vec4<u32>(expert_in_page(expert) * MATRICES * OUTPUTS) + weight_rows) * CHUNKS;
#if WEIGHT_FORMAT == fp8
  // Rows from a multiple of two, or of four, share their scales.
  let scale_line = (expert * MATRICES * SCALE_ROWS + first / 128u) * SCALE_COLUMNS;
#endif
  let base0 = input_row(tile, 0u);
  let base1 = input_row(tile, 1u);
  let base2 = input_row(tile, 2u);
  let base3 = input_row(tile, 3u);
  let base4 = input_row(tile, 4u);
  let base5 = input_row(tile, 5u);
  let base6 = input_row(tile, 6u);
  let base7 = input_row(tile, 7u);
  var sums: StreamSums;
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let w = rows_by_column(
      page_chunk(page, chunks.x + chunk), page_chunk(page, chunks.y + chunk),
      page_chunk(page, chunks.z + chunk), page_chunk(page, chunks.w + chunk));
    var factor = vec4<f32>(WEIGHT_FACTOR);
#if WEIGHT_FORMAT == fp8
    let scale = scale_line + chunk / 8u;
#if GATE_UP
    factor *= vec4<f32>(vec2<f32>(scales[scale]), vec2<f32>(scales[scale + SCALE_ROWS * SCALE_COLUMNS]));
#else
    factor *= scales[scale];
#endif
#endif
    sums.t0 = fma(products(w, base0, chunk), factor, sums.t0);
    if (count > 1u) {
      sums.t1 = fma(products(w, base1, chunk), factor, sums.t1);
    }
    if (count > 2u) {
      sums.t2 = fma(products(w, base2, chunk), factor, sums.t2);
    }
    if (count > 3u) {
      sums.t3 = fma(products(w, base3, chunk), factor, sums.t3);
    }
    if (count > 4u) {
      sums.t4 = fma(products(w, base4, chunk), factor, sums.t4);
    }
    if (count > 5u) {
      sums.t5 = fma(products(w, base5, chunk), factor, sums.t5);
    }
    if (count > 6u) {
      sums.t6 = fma(products(w, base6, chunk), factor, sums.t6);
    }
    if (count > 7u) {
      sums.t7 = fma(products(w, base7, chunk), factor, sums.t7);
    }
  }
  let total = stream_total(sums, count, local);
  let row = local / STREAM_PARTS;
  let column = local % STREAM_PARTS;
  if (row < count && column < min(COLUMNS, OUTPUTS - first)) {
#if GATE_UP
    let value = silu(total[column]) * total[column + 2u];
#else
    let value = total[column];
#endif
    output[rows[tile.y + row] * OUTPUT_STRIDE + first + column] = value;
  }
}
