// y[t, row] = sum over k of w[row, k] * x[t, k], as matmul.wgsl, by subgroup matrices (lib/matrix_tile.wgsl, which says how precisely).
//
// weights, scales, batch, y   as in matmul.wgsl; halves: x as matrix/halves.wgsl splits it. Dispatch: [ceil(ROW_COUNT / TILE_N), ceil(tokens / TILE_M)] workgroups of THREADS.
// 16 FRAGMENTS_N divides 128 and ROW_START is a multiple of 128, so that a subgroup's rows have one scale for 128 columns.
// Constants: those of matmul.wgsl and of lib/matrix_tile.wgsl. WEIGHT_FORMAT = "fp8" | "f16".
#include "lib/batch.wgsl"
#include "lib/matrix_tile.wgsl"

@group(0) @binding(0) var<storage, read> halves: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

// Of the workgroup's tile, and how many rows of x count.
var<private> first_row: u32;
var<private> first_token: u32;
var<private> count: u32;

// Rows and tokens past the end repeat the last: their sums are not written.
fn weight_row(n: u32) -> u32 {
  return min(first_row + n, ROW_COUNT - 1u);
}

fn weight_vectors(at: array<u32, STAGED_VECTORS>) -> array<Unit, STAGED_VECTORS> {
  var words: array<Unit, STAGED_VECTORS>;
#unroll i < STAGED_VECTORS
  words[i] = weights[at[i]];
#endunroll
  return words;
}

fn x_row(m: u32) -> u32 {
  return min(first_token + m, max(count, 1u) - 1u);
}

fn block_scale(matrix: u32, n: u32, chunk: u32) -> f32 {
#if WEIGHT_FORMAT == fp8
  return scales[(ROW_START + min(first_row + n, ROW_COUNT - 1u)) / 128u * SCALE_COLUMNS + chunk / 8u];
#else
  return 1.0;
#endif
}

fn write_result(m: u32, n: u32, value: f32) {
  let token = first_token + m;
  let row = first_row + n;
  if (token < count && row < ROW_COUNT) {
    let index = token * Y_STRIDE + ROW_START + row;
#if RESIDUAL
    y[index] += value;
#else
    y[index] = value;
#endif
  }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#if COUNT_OUTPUTS
  let rows = output_count();
#else
  let rows = token_count();
#endif
  count = rows;
  first_row = group.x * TILE_N;
  first_token = group.y * TILE_M;
  multiply_tile(local, select(CHUNKS, 0u, group.y * TILE_M >= rows));
}
