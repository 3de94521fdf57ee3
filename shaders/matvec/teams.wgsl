// y[t, row] = sum over k of w[row, k] * x[t, k], for a few tokens, as matvec.wgsl has it, in the shapes of lib/row_teams.wgsl: for large GPUs.
//
// x       [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 4 PARTS UNITS
// weights [rows of this part, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl); scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// gamma   [4 PARTS UNITS] f32, with NORM: x is normalized first, x * gamma / sqrt(mean(x^2) + EPSILON); the factor is applied to the sums, so x is read once
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it
//
// Dispatch: (ceil(ROW_COUNT / (ROWS * TEAMS)), tokens / TOKENS) workgroups of WORKGROUP. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`.
// RAGGED_ROWS: ROW_COUNT is no multiple of ROWS * TEAMS; RAGGED_UNITS: UNITS is no multiple of STEP * UNROLL.
// Sums are f32. Tokens beyond the batch's count are computed from whatever their rows hold and never read.
#include "lib/row_sums.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<Unit>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
#if NORM
@group(0) @binding(4) var<storage, read> gamma: array<vec4<f32>>;
#endif

fn store(row: u32, token: u32, sum: f32, squares: f32) {
  var total = sum;
#if NORM
  total *= inverseSqrt(squares / f32(K) + EPSILON);
#endif
#if RAGGED_ROWS
  if (row >= ROW_COUNT) {
    return;
  }
#endif
  let index = token * Y_STRIDE + ROW_START + row;
#if RESIDUAL
  y[index] += total;
#else
  y[index] = total;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let lane = local % LANES;
  let team = local / LANES % TEAMS;
  let split = local / (LANES * TEAMS);
  let first = (group.x * TEAMS + team) * ROWS;
  let first_token = group.y * TOKENS;
  var sums = row_sums(first, first_token, split, lane);

#if SPLIT == 1
#unroll i < SUMS
    sums[i] = lanes_sum(sums[i]);
#endunroll
#unroll t < TOKENS
#unroll r < ROWS
      if (lane == (t * ROWS + r) % LANES) {
#if NORM
        store(first + r, first_token + t, sums[t * ROWS + r], sums[PRODUCTS + t]);
#else
        store(first + r, first_token + t, sums[t * ROWS + r], 0.0);
#endif
      }
#endunroll
#endunroll
#else
#unroll i < SUMS
    let sum = lanes_sum(sums[i]);
    if (lane == i % LANES) {
      split_sums[(split * TEAMS + team) * SUMS + i] = sum;
    }
#endunroll
  workgroupBarrier();
  for (var i = local; i < TEAMS * PRODUCTS; i += WORKGROUP) {
    let of_team = i / PRODUCTS;
    let product = i % PRODUCTS;
    let token = product / ROWS;
    var sum = 0.0;
    var squares = 0.0;
    for (var s = 0u; s < SPLIT; s++) {
      let base = (s * TEAMS + of_team) * SUMS;
      sum += split_sums[base + product];
#if NORM
      squares += split_sums[base + PRODUCTS + token];
#endif
    }
    store((group.x * TEAMS + of_team) * ROWS + product % ROWS, first_token + token, sum, squares);
  }
#endif
}
