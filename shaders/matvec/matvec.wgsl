// y[t, row] = sum over k of w[row, k] * x[t, k], for a few tokens: every weight is read once.
//
// x       [TOKENS, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 16 CHUNKS
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// gamma   [16 CHUNKS] f32, with NORM: x is normalized first, x * gamma / sqrt(mean(x^2) + EPSILON); the factor is applied to the sums, so x is read once
// y       [TOKENS, Y_STRIDE] f32; with RESIDUAL the sums are added to it
//
// Dispatch: ceil(ROW_COUNT / 4) workgroups of WORKGROUP, four rows each. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`.
// Sums are f32. Tokens beyond the batch's count are computed from whatever their rows hold and never read.
#include "lib/weights.wgsl"
#include "lib/reduce.wgsl"

const ROWS: u32 = 4u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
#if NORM
@group(0) @binding(4) var<storage, read> gamma: array<vec4<f32>>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
  let first = group.x * ROWS;
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(ROW_COUNT - 1u));
  var sums: array<vec4<f32>, TOKENS>;
#if NORM
  var squares: array<f32, TOKENS>;
#endif
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    var chunks: array<array<vec4<f32>, 4>, ROWS>;
    var factor = vec4<f32>(WEIGHT_FACTOR);
    for (var r = 0u; r < ROWS; r++) {
      chunks[r] = load_chunk(rows[r] * CHUNKS + chunk);
    }
#if WEIGHT_FORMAT == fp8
    let column = chunk / 8u;
    for (var r = 0u; r < ROWS; r++) {
      factor[r] *= scales[(ROW_START + rows[r]) / 128u * SCALE_COLUMNS + column];
    }
#endif
#if NORM
    let g0 = gamma[chunk * 4u];
    let g1 = gamma[chunk * 4u + 1u];
    let g2 = gamma[chunk * 4u + 2u];
    let g3 = gamma[chunk * 4u + 3u];
#endif
    for (var t = 0u; t < TOKENS; t++) {
      let base = (t * X_STRIDE + X_OFFSET) / 4u + chunk * 4u;
      var x0 = x[base];
      var x1 = x[base + 1u];
      var x2 = x[base + 2u];
      var x3 = x[base + 3u];
#if NORM
      squares[t] += dot(x0, x0) + dot(x1, x1) + dot(x2, x2) + dot(x3, x3);
      x0 *= g0;
      x1 *= g1;
      x2 *= g2;
      x3 *= g3;
#endif
      var products: vec4<f32>;
      for (var r = 0u; r < ROWS; r++) {
        products[r] = dot(chunks[r][0], x0) + dot(chunks[r][1], x1) + dot(chunks[r][2], x2) + dot(chunks[r][3], x3);
      }
      sums[t] += products * factor;
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    var total = workgroup_sum4(sums[t], local);
#if NORM
    let mean = workgroup_sum4(vec4<f32>(squares[t]), local).x / f32(K);
    total *= inverseSqrt(mean + EPSILON);
#endif
    if (local < ROWS && first + local < ROW_COUNT) {
      let index = t * Y_STRIDE + ROW_START + first + local;
#if RESIDUAL
      y[index] += total[local];
#else
      y[index] = total[local];
#endif
    }
  }
}
