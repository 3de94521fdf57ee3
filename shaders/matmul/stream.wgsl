// y[t, row] = sum over k of w[row, k] * x[t, k], for up to some tens of tokens: a workgroup streams four rows of weights past 8 tokens.
//
// x       [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 16 CHUNKS
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// batch   (lib/batch.wgsl) says how many rows of x count: tokens, or with COUNT_OUTPUTS outputs
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it. Rows beyond the count are not written.
//
// Dispatch: [ceil(tokens / 8), ceil(ROW_COUNT / 4)] workgroups of WORKGROUP; rows beyond 65535 workgroups go along z. Workgroups with the
// same rows come one after another, so that memory is read once. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`;
// ROW_START is a multiple of 128.
// Numerics: f32; a 128-block's scale multiplies partial sums.
#include "lib/weights.wgsl"
#include "lib/stream.wgsl"
#include "lib/batch.wgsl"

const ROWS: u32 = 4u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

fn products(rows: array<mat4x4<f32>, 4>, token: u32, chunk: u32) -> vec4<f32> {
  let at = (token * X_STRIDE + X_OFFSET) / 4u + chunk * 4u;
  return chunk_products(rows, x[at], x[at + 1u], x[at + 2u], x[at + 3u]);
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
#if COUNT_OUTPUTS
  let all = output_count();
#else
  let all = token_count();
#endif
  let first = (group.z * groups.y + group.y) * ROWS;
  let token = group.x * STREAM_TOKENS;
  if (token >= all || first >= ROW_COUNT) {
    return;
  }
  let count = min(STREAM_TOKENS, all - token);
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(ROW_COUNT - 1u)) * CHUNKS;
  var sums: StreamSums;
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let w = rows_by_column(
      load_chunk(rows.x + chunk), load_chunk(rows.y + chunk), load_chunk(rows.z + chunk), load_chunk(rows.w + chunk));
#if WEIGHT_FORMAT == fp8
    // Four rows from a multiple of four share a scale.
    let factor = vec4<f32>(WEIGHT_FACTOR * scales[(ROW_START + first) / 128u * SCALE_COLUMNS + chunk / 8u]);
#else
    let factor = vec4<f32>(WEIGHT_FACTOR);
#endif
    sums.t0 = fma(products(w, token, chunk), factor, sums.t0);
    if (count > 1u) {
      sums.t1 = fma(products(w, token + 1u, chunk), factor, sums.t1);
    }
    if (count > 2u) {
      sums.t2 = fma(products(w, token + 2u, chunk), factor, sums.t2);
    }
    if (count > 3u) {
      sums.t3 = fma(products(w, token + 3u, chunk), factor, sums.t3);
    }
    if (count > 4u) {
      sums.t4 = fma(products(w, token + 4u, chunk), factor, sums.t4);
    }
    if (count > 5u) {
      sums.t5 = fma(products(w, token + 5u, chunk), factor, sums.t5);
    }
    if (count > 6u) {
      sums.t6 = fma(products(w, token + 6u, chunk), factor, sums.t6);
    }
    if (count > 7u) {
      sums.t7 = fma(products(w, token + 7u, chunk), factor, sums.t7);
    }
  }
  let total = stream_total(sums, count, local);
  let own_token = local / STREAM_PARTS;
  let own_row = local % STREAM_PARTS;
  if (own_token < count && own_row < min(ROWS, ROW_COUNT - first)) {
    let index = (token + own_token) * Y_STRIDE + ROW_START + first + own_row;
#if RESIDUAL
    y[index] += total[own_row];
#else
    y[index] = total[own_row];
#endif
  }
}
