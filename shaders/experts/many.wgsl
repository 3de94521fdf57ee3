// The experts' products for many tokens, a tile of rows of one expert (group_tokens.wgsl) times a tile of its weights.
//
// With GATE_UP: output[row] = silu(W_gate input[row / SLOTS]) * (W_up input[row / SLOTS]); without: output[row] = W input[row];
// row = token * SLOTS + slot.
//
// tiles, rows  as group_tokens.wgsl writes them
// input   [tokens or tokens * SLOTS, INPUT_STRIDE] f32, columns 0 .. 16 CHUNKS, zero beyond the weights' columns
// weights for each expert: MATRICES (gate, up; or down) of [OUTPUTS, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales  [experts, MATRICES, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// output  [tokens * SLOTS, OUTPUT_STRIDE] f32, columns 0 .. OUTPUTS
//
// Dispatch: (ceil(OUTPUTS / TILE_COLUMNS), an upper bound of the tiles) workgroups of THREADS_X x TILE_ROWS / 4; surplus workgroups, and
// those whose expert is not bound, exit. An invocation computes 4 rows times 8 weight rows: TILE_COLUMNS = 8 THREADS_X / MATRICES.
// Numerics: f32. Weights are decoded once a tile into workgroup memory, two chunks at a time, and scaled there; sums run along K in order.
#include "lib/expert_pages.wgsl"
#include "lib/silu.wgsl"

const THREADS: u32 = THREADS_X * THREADS_Y;
const THREADS_Y: u32 = TILE_ROWS / 4u;
const WEIGHT_ROWS: u32 = THREADS_X * 8u;
const TILE_COLUMNS: u32 = WEIGHT_ROWS / MATRICES;
const TILE_CHUNKS: u32 = 2u;
const VECTORS: u32 = TILE_CHUNKS * 4u;
// One more, so that neighbouring invocations' rows lie in different banks.
const STRIDE: u32 = VECTORS + 1u;

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

var<workgroup> row_numbers: array<u32, TILE_ROWS>;
var<workgroup> input_tile: array<vec4<f32>, TILE_ROWS * STRIDE>;
var<workgroup> weight_tile: array<vec4<f32>, WEIGHT_ROWS * STRIDE>;

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (group.y >= tiles[0].x) {
    return;
  }
  let tile = tiles[1u + group.y];
  let expert = tile.x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let place = expert_in_page(expert);
  let first_column = group.x * TILE_COLUMNS;
  if (local < TILE_ROWS) {
    // Tiles that are not full repeat their last row.
    row_numbers[local] = rows[tile.y + min(local, tile.z - 1u)];
  }
  workgroupBarrier();

  let column = local % THREADS_X;
  let row = local / THREADS_X;
  var sums: array<vec4<f32>, 8>;
  for (var start = 0u; start < CHUNKS; start += TILE_CHUNKS) {
    // The last of an odd number of chunks comes alone. Its length not being constant also keeps compilers from unrolling the loop below,
    // which is long enough for software adapters as it is.
    let vectors = min(VECTORS, (CHUNKS - start) * 4u);
    for (var i = local; i < TILE_ROWS * VECTORS; i += THREADS) {
      let m = i / VECTORS;
      let vector = i % VECTORS;
      if (vector < vectors) {
#if GATE_UP
        let source = row_numbers[m] / SLOTS;
#else
        let source = row_numbers[m];
#endif
        input_tile[m * STRIDE + vector] = input[source * (INPUT_STRIDE / 4u) + start * 4u + vector];
      }
    }
    for (var i = local; i < WEIGHT_ROWS * TILE_CHUNKS; i += THREADS) {
      let n = i / TILE_CHUNKS;
      let chunk = start + i % TILE_CHUNKS;
      if (chunk < CHUNKS) {
        let matrix = n / TILE_COLUMNS;
        // Columns beyond the last repeat it.
        let weight_row = min(first_column + n % TILE_COLUMNS, OUTPUTS - 1u);
        let values = page_chunk(page, ((place * MATRICES + matrix) * OUTPUTS + weight_row) * CHUNKS + chunk);
#if WEIGHT_FORMAT == fp8
        let factor = WEIGHT_FACTOR * scales[((expert * MATRICES + matrix) * SCALE_ROWS + weight_row / 128u) * SCALE_COLUMNS + chunk / 8u];
#else
        let factor = WEIGHT_FACTOR;
#endif
        let at = n * STRIDE + i % TILE_CHUNKS * 4u;
        weight_tile[at] = values[0] * factor;
        weight_tile[at + 1u] = values[1] * factor;
        weight_tile[at + 2u] = values[2] * factor;
        weight_tile[at + 3u] = values[3] * factor;
      }
    }
    workgroupBarrier();
    for (var k = 0u; k < vectors; k++) {
      let x0 = input_tile[row * STRIDE + k];
      let x1 = input_tile[(row + THREADS_Y) * STRIDE + k];
      let x2 = input_tile[(row + THREADS_Y * 2u) * STRIDE + k];
      let x3 = input_tile[(row + THREADS_Y * 3u) * STRIDE + k];
      for (var j = 0u; j < 8u; j++) {
        let w = weight_tile[(column + j * THREADS_X) * STRIDE + k];
        sums[j] += vec4<f32>(dot(x0, w), dot(x1, w), dot(x2, w), dot(x3, w));
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < 4u; i++) {
    let m = row + i * THREADS_Y;
    if (m < tile.z) {
      let base = row_numbers[m] * OUTPUT_STRIDE;
      for (var j = 0u; j < 8u / MATRICES; j++) {
        let n = first_column + column + j * THREADS_X;
        if (n < OUTPUTS) {
#if GATE_UP
          output[base + n] = silu(sums[j][i]) * sums[j + 4u][i];
#else
          output[base + n] = sums[j][i];
#endif
        }
      }
    }
  }
}
