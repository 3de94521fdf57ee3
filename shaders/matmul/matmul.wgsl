// y[t, row] = sum over k of w[row, k] * x[t, k], for many tokens: a tile of weights is decoded once and used by 8 TOKENS_PER_THREAD tokens.
//
// x       [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 16 CHUNKS
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// batch   (lib/batch.wgsl) says how many rows of x count: tokens, or with COUNT_OUTPUTS outputs
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it. Rows beyond the count are not written.
//
// Dispatch: [ceil(ROW_COUNT / 64), ceil(tokens / (8 TOKENS_PER_THREAD))] workgroups of 8 x 8, each thread 8 rows by TOKENS_PER_THREAD (4 or
// 8) tokens.
// Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`. Workgroup memory: 8 KiB of weights, 1 KiB of x for each token of
// a thread.
// Numerics: an fp8 weight times its scale is rounded once to f32 when it is staged; sums are f32.
#include "lib/weights.wgsl"
#include "lib/batch.wgsl"

const TILE_ROWS: u32 = 64u;
const TILE_TOKENS: u32 = 8u * TOKENS_PER_THREAD;
// Two chunks: 32 columns, 8 vectors.
const TILE_VECTORS: u32 = 8u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * TILE_VECTORS>;
var<workgroup> x_tile: array<vec4<f32>, TILE_TOKENS * TILE_VECTORS>;

// Where a tile keeps a vector: shuffled by row, so that eight rows read at one column lie in different banks.
fn place(row: u32, vector: u32) -> u32 {
  return row * TILE_VECTORS + (vector ^ (row & 7u));
}

// Without branches: rows and tokens past the end repeat the last, since their sums are never written; a chunk past the end counts as zero.
fn stage_weights(local: u32, first_row: u32, first_chunk: u32) {
  for (var i = local; i < TILE_ROWS * 2u; i += 64u) {
    let tile_row = i / 2u;
    let row = min(first_row + tile_row, ROW_COUNT - 1u);
    let chunk = min(first_chunk + i % 2u, CHUNKS - 1u);
    let values = load_chunk(row * CHUNKS + chunk);
    var factor = select(0.0, WEIGHT_FACTOR, first_chunk + i % 2u < CHUNKS);
#if WEIGHT_FORMAT == fp8
    factor *= scales[(ROW_START + row) / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
    let vector = (i % 2u) * 4u;
    w_tile[place(tile_row, vector)] = values[0] * factor;
    w_tile[place(tile_row, vector + 1u)] = values[1] * factor;
    w_tile[place(tile_row, vector + 2u)] = values[2] * factor;
    w_tile[place(tile_row, vector + 3u)] = values[3] * factor;
  }
}

fn stage_x(local: u32, first_token: u32, last_token: u32, first_chunk: u32) {
  for (var i = local; i < TILE_TOKENS * TILE_VECTORS; i += 64u) {
    let token = min(first_token + i / TILE_VECTORS, last_token);
    let vector = min(first_chunk * 4u + i % TILE_VECTORS, CHUNKS * 4u - 1u);
    x_tile[place(i / TILE_VECTORS, i % TILE_VECTORS)] = x[(token * X_STRIDE + X_OFFSET) / 4u + vector];
  }
}

fn store(token: u32, count: u32, first_row: u32, low: vec4<f32>, high: vec4<f32>) {
  if (token >= count) {
    return;
  }
  for (var j = 0u; j < 8u; j++) {
    let row = first_row + 8u * j;
    if (row < ROW_COUNT) {
      let index = token * Y_STRIDE + ROW_START + row;
      let value = select(high[j & 3u], low[j & 3u], j < 4u);
#if RESIDUAL
      y[index] += value;
#else
      y[index] = value;
#endif
    }
  }
}

@compute @workgroup_size(8, 8)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) thread: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
#if COUNT_OUTPUTS
  let count = output_count();
#else
  let count = token_count();
#endif
  let first_row = group.x * TILE_ROWS;
  let first_token = group.y * TILE_TOKENS;
  // Sums of rows thread.x + 8 j, j = 0 .. 7, for tokens thread.y + 8 i. Named rather than indexed, so that they stay in registers.
  var low0 = vec4<f32>(0.0);
  var low1 = vec4<f32>(0.0);
  var low2 = vec4<f32>(0.0);
  var low3 = vec4<f32>(0.0);
  var high0 = vec4<f32>(0.0);
  var high1 = vec4<f32>(0.0);
  var high2 = vec4<f32>(0.0);
  var high3 = vec4<f32>(0.0);
#if TOKENS_PER_THREAD == 8
  var low4 = vec4<f32>(0.0);
  var low5 = vec4<f32>(0.0);
  var low6 = vec4<f32>(0.0);
  var low7 = vec4<f32>(0.0);
  var high4 = vec4<f32>(0.0);
  var high5 = vec4<f32>(0.0);
  var high6 = vec4<f32>(0.0);
  var high7 = vec4<f32>(0.0);
#endif
  // Tiles past the count have nothing to do. That the bound is not a constant also keeps software adapters from unrolling everything when K
  // is small, which took lavapipe up to 20 s to compile.
  let chunks = select(CHUNKS, 0u, first_token >= count);
  for (var chunk = 0u; chunk < chunks; chunk += 2u) {
    stage_weights(local, first_row, chunk);
    stage_x(local, first_token, max(count, 1u) - 1u, chunk);
    workgroupBarrier();
    for (var vector = 0u; vector < TILE_VECTORS; vector++) {
      // A vector of x times the matrix whose columns are four rows of weights: four dot products.
      let w = place(thread.x, vector);
      let low = mat4x4<f32>(w_tile[w], w_tile[w + 64u], w_tile[w + 128u], w_tile[w + 192u]);
      let high = mat4x4<f32>(w_tile[w + 256u], w_tile[w + 320u], w_tile[w + 384u], w_tile[w + 448u]);
      let t = place(thread.y, vector);
      let x0 = x_tile[t];
      low0 += x0 * low;
      high0 += x0 * high;
      let x1 = x_tile[t + 64u];
      low1 += x1 * low;
      high1 += x1 * high;
      let x2 = x_tile[t + 128u];
      low2 += x2 * low;
      high2 += x2 * high;
      let x3 = x_tile[t + 192u];
      low3 += x3 * low;
      high3 += x3 * high;
#if TOKENS_PER_THREAD == 8
      let x4 = x_tile[t + 256u];
      low4 += x4 * low;
      high4 += x4 * high;
      let x5 = x_tile[t + 320u];
      low5 += x5 * low;
      high5 += x5 * high;
      let x6 = x_tile[t + 384u];
      low6 += x6 * low;
      high6 += x6 * high;
      let x7 = x_tile[t + 448u];
      low7 += x7 * low;
      high7 += x7 * high;
#endif
    }
    workgroupBarrier();
  }
  let token = first_token + thread.y;
  let row = first_row + thread.x;
  store(token, count, row, low0, high0);
  store(token + 8u, count, row, low1, high1);
  store(token + 16u, count, row, low2, high2);
  store(token + 24u, count, row, low3, high3);
#if TOKENS_PER_THREAD == 8
  store(token + 32u, count, row, low4, high4);
  store(token + 40u, count, row, low5, high5);
  store(token + 48u, count, row, low6, high6);
  store(token + 56u, count, row, low7, high7);
#endif
}
