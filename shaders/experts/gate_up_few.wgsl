// h[t, slot] = silu(W_gate x[t]) * (W_up x[t]) with the experts that the routing names, for a few tokens: all chosen experts in one dispatch.
//
// x        [tokens, X_STRIDE] f32, columns 0 .. 16 CHUNKS
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: gate [WIDTH, 16 CHUNKS], up [WIDTH, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales   [experts, 2, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// gamma    [16 CHUNKS] f32, with NORM: x is normalized first, x * gamma / sqrt(mean(x^2) + EPSILON); the factor is applied to the sums, so x is read once
// h        [tokens * SLOTS, H_STRIDE] f32, columns 0 .. WIDTH
//
// Dispatch: (ceil(WIDTH / 4), SLOTS, tokens) workgroups of WORKGROUP, four rows each of gate and up. Workgroups whose expert is not bound exit.
// Sums are f32; a 128-block's scale multiplies partial sums.
#include "lib/expert_pages.wgsl"
#include "lib/reduce.wgsl"
#include "lib/silu.wgsl"

const ROWS: u32 = 4u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;
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
  let row_of_h = group.z * SLOTS + group.y;
  let expert = routing[row_of_h].x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let first = group.x * ROWS;
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(WIDTH - 1u));
  let gate_rows = (vec4<u32>(expert_in_page(expert) * 2u * WIDTH) + rows) * CHUNKS;
  let up_rows = gate_rows + vec4<u32>(WIDTH * CHUNKS);
#if WEIGHT_FORMAT == fp8
  // Four rows from a multiple of four share their scales.
  let gate_scales = (expert * 2u * SCALE_ROWS + first / 128u) * SCALE_COLUMNS;
  let up_scales = gate_scales + SCALE_ROWS * SCALE_COLUMNS;
#endif
  var gate_sums: vec4<f32>;
  var up_sums: vec4<f32>;
#if NORM
  var squares = 0.0;
#endif
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let base = group.z * (X_STRIDE / 4u) + chunk * 4u;
    var x0 = x[base];
    var x1 = x[base + 1u];
    var x2 = x[base + 2u];
    var x3 = x[base + 3u];
#if NORM
    squares += dot(x0, x0) + dot(x1, x1) + dot(x2, x2) + dot(x3, x3);
    x0 *= gamma[chunk * 4u];
    x1 *= gamma[chunk * 4u + 1u];
    x2 *= gamma[chunk * 4u + 2u];
    x3 *= gamma[chunk * 4u + 3u];
#endif
    var gate_products: vec4<f32>;
    var up_products: vec4<f32>;
    for (var r = 0u; r < ROWS; r++) {
      let gate = page_chunk(page, gate_rows[r] + chunk);
      let up = page_chunk(page, up_rows[r] + chunk);
      gate_products[r] = dot(gate[0], x0) + dot(gate[1], x1) + dot(gate[2], x2) + dot(gate[3], x3);
      up_products[r] = dot(up[0], x0) + dot(up[1], x1) + dot(up[2], x2) + dot(up[3], x3);
    }
#if WEIGHT_FORMAT == fp8
    gate_sums += gate_products * (WEIGHT_FACTOR * scales[gate_scales + chunk / 8u]);
    up_sums += up_products * (WEIGHT_FACTOR * scales[up_scales + chunk / 8u]);
#else
    gate_sums += gate_products;
    up_sums += up_products;
#endif
  }
  var gate_total = workgroup_sum4(gate_sums, local);
  var up_total = workgroup_sum4(up_sums, local);
#if NORM
  let factor = inverseSqrt(workgroup_sum4(vec4<f32>(squares), local).x / f32(HIDDEN) + EPSILON);
  gate_total *= factor;
  up_total *= factor;
#endif
  if (local < ROWS && first + local < WIDTH) {
    h[row_of_h * H_STRIDE + first + local] = silu(gate_total[local]) * up_total[local];
  }
}
