// y[t, row] = sum over k of w[row, k] * x[t, k], summed exactly and rounded once (lib/exactSum.wgsl): the same numbers on every device.
//
// x       [tokens, X_STRIDE] f32, columns 0 .. 16 CHUNKS
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it, before rounding
//
// Dispatch: (ceil(ROW_COUNT / 4), tokens) workgroups of WORKGROUP, four rows each. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`.
#include "lib/weights.wgsl"
#include "lib/exactRows.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.x * ROWS;
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(ROW_COUNT - 1u));
  var sums = no_rows();
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let base = group.y * (X_STRIDE / 4u) + chunk * 4u;
    let input = array<vec4<f32>, 4>(x[base], x[base + 1u], x[base + 2u], x[base + 3u]);
    for (var r = 0u; r < ROWS; r++) {
      var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[(ROW_START + rows[r]) / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
      sums[r] = add_chunk(sums[r], load_chunk(rows[r] * CHUNKS + chunk), input, factor);
    }
  }
  let total = exact_workgroup_sum(exact_across(sums[0], sums[1], sums[2], sums[3]), local);
  if (local < ROWS && first + local < ROW_COUNT) {
    let index = group.y * Y_STRIDE + ROW_START + first + local;
#if RESIDUAL
    let before = ExactSum(vec4<f32>(y[index]), vec4<f32>(0.0));
    y[index] = rounded(exact_add(before, total.hi, total.lo))[local];
#else
    y[index] = rounded(total)[local];
#endif
  }
}
