// y[t, row] = sum over k of w[row, k] * x[t, k], for many tokens, as a blocked product (lib/block.wgsl): while a block is multiplied the
// next is on its way to registers.
//
// x       [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 16 CHUNKS
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// batch   (lib/batch.wgsl) says how many rows of x count: tokens, or with COUNT_OUTPUTS outputs
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it. Rows beyond the count are not written.
//
// Dispatch: [ceil(ROW_COUNT / BLOCK_ROWS), ceil(tokens / BLOCK_TOKENS)] workgroups of BLOCK_THREADS. Rows ROW_START .. ROW_START +
// ROW_COUNT of the matrix lie in `weights`; ROW_START is a multiple of 128.
// Numerics: an fp8 weight times its scale is rounded once to f32 when it is staged; sums are f32, one fused multiplication and addition
// after another along K.
#include "lib/block.wgsl"
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

const QUADS: u32 = CHUNKS * 4u;

fn weight_word(page: u32, word: u32) -> u32 {
  return weights[word / 4u][word % 4u];
}

// Rows past the end repeat the last; their sums are never written.
fn load_weights(unit: u32, first_row: u32, start: u32) -> array<vec4<u32>, QUAD_WORDS> {
  let rows = min(vec4<u32>(first_row + unit / BLOCK_QUADS * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(ROW_COUNT - 1u));
  return load_quads(0u, rows * QUADS + min(start + unit % BLOCK_QUADS, QUADS - 1u));
}

// Four rows from a multiple of four share a scale.
fn load_factor(unit: u32, first_row: u32, start: u32) -> f32 {
#if WEIGHT_FORMAT == fp8
  let row = min(first_row + unit / BLOCK_QUADS * 4u, ROW_COUNT - 1u);
  return WEIGHT_FACTOR * scales[(ROW_START + row) / 128u * SCALE_COLUMNS + min(start + unit % BLOCK_QUADS, QUADS - 1u) / 32u];
#else
  return WEIGHT_FACTOR;
#endif
}

fn load_x(rows: vec4<u32>, quad: u32) -> mat4x4<f32> {
  let at = rows + min(quad, QUADS - 1u);
  return transpose(mat4x4<f32>(x[at.x], x[at.y], x[at.z], x[at.w]));
}

fn store(token: u32, count: u32, row: u32, sums: vec4<f32>) {
  if (token >= count) {
    return;
  }
  let index = token * Y_STRIDE + ROW_START + row;
  for (var i = 0u; i < 4u; i++) {
    if (row + i < ROW_COUNT) {
#if RESIDUAL
      y[index + i] += sums[i];
#else
      y[index + i] = sums[i];
#endif
    }
  }
}

fn store_rows(token: u32, count: u32, row: u32, sums: mat4x4<f32>) {
  store(token, count, row, sums[0]);
  store(token + 1u, count, row, sums[1]);
  store(token + 2u, count, row, sums[2]);
  store(token + 3u, count, row, sums[3]);
}

@compute @workgroup_size(BLOCK_THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
#if COUNT_OUTPUTS
  let count = output_count();
#else
  let count = token_count();
#endif
  let first_row = group.x * BLOCK_ROWS;
  let first_token = group.y * BLOCK_TOKENS;
  if (first_token >= count) {
    return;
  }
  let column = local % THREADS_X;
  let row = local / THREADS_X;
  // Invocations whose tokens are all past the end only stage.
  let multiplies = first_token + row * THREAD_TOKENS < count;
  let x_quad = local % BLOCK_QUADS;
  let x_tokens = min(vec4<u32>(first_token + local / BLOCK_QUADS * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(count - 1u));
  let x_rows = (x_tokens * X_STRIDE + X_OFFSET) / 4u;

  var next_weights: array<array<vec4<u32>, QUAD_WORDS>, THREAD_UNITS>;
  var factors: array<f32, THREAD_UNITS>;
  for (var i = 0u; i < THREAD_UNITS; i++) {
    next_weights[i] = load_weights(local + i * BLOCK_THREADS, first_row, 0u);
    factors[i] = load_factor(local + i * BLOCK_THREADS, first_row, 0u);
  }
  var next_x = load_x(x_rows, x_quad);
  var sums: Sums;
  for (var start = 0u; start < QUADS; start += BLOCK_QUADS) {
    for (var i = 0u; i < THREAD_UNITS; i++) {
      stage_weight_quads(local + i * BLOCK_THREADS, decode_quads(next_weights[i]) * factors[i]);
    }
    if (local < X_UNITS) {
      stage_x_quads(local, next_x);
    }
    workgroupBarrier();
    let following = start + BLOCK_QUADS;
    if (following < QUADS) {
      for (var i = 0u; i < THREAD_UNITS; i++) {
        next_weights[i] = load_weights(local + i * BLOCK_THREADS, first_row, following);
        factors[i] = load_factor(local + i * BLOCK_THREADS, first_row, following);
      }
      if (local < X_UNITS) {
        next_x = load_x(x_rows, following + x_quad);
      }
    }
    if (multiplies) {
      sums = multiply_block(sums, column, row, min(BLOCK_QUADS, QUADS - start));
    }
    workgroupBarrier();
  }
  let token = first_token + row * THREAD_TOKENS;
  let low = first_row + column * 4u;
  let high = low + BLOCK_ROWS / 2u;
  store_rows(token, count, low, sums.low0);
  store_rows(token, count, high, sums.high0);
#if THREAD_TOKENS == 8
  store_rows(token + 4u, count, low, sums.low1);
  store_rows(token + 4u, count, high, sums.high1);
#endif
}
