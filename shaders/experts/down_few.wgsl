// y[t] = (y[t] +) sum over slots of weight * (W_down h[t, slot]) with the experts and weights that the routing names, for a few tokens: one dispatch.
//
// h        [tokens * SLOTS, 16 CHUNKS] f32, zero beyond the experts' width
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: down [HIDDEN, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales   [experts, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// y        [tokens, Y_STRIDE] f32, columns 0 .. HIDDEN; with RESIDUAL the sums are added to it
//
// Dispatch: (ceil(HIDDEN / 4), tokens) workgroups of WORKGROUP, four rows each. The slots' rows are read as one long row, so that narrow experts keep every
// invocation busy too. Experts not bound add nothing.
// Sums are f32, in an order that depends on the shapes only; a 128-block's scale and the slot's weight multiply partial sums.
#include "lib/expert_pages.wgsl"
#include "lib/reduce.wgsl"

const ROWS: u32 = 4u;

@group(0) @binding(0) var<storage, read> h: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
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
  let token = group.y;
  let first = group.x * ROWS;
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(HIDDEN - 1u));
  var sums: vec4<f32>;
  for (var i = local; i < SLOTS * CHUNKS; i += WORKGROUP) {
    let chunk = i % CHUNKS;
    let route = routing[token * SLOTS + i / CHUNKS];
    let expert = route.x;
    if (expert_bound(expert)) {
      let page = expert_page(expert);
      let base = (token * SLOTS * CHUNKS + i) * 4u;
      let h0 = h[base];
      let h1 = h[base + 1u];
      let h2 = h[base + 2u];
      let h3 = h[base + 3u];
      var products: vec4<f32>;
      for (var r = 0u; r < ROWS; r++) {
        let down = page_chunk(page, (expert_in_page(expert) * HIDDEN + rows[r]) * CHUNKS + chunk);
        products[r] = dot(down[0], h0) + dot(down[1], h1) + dot(down[2], h2) + dot(down[3], h3);
      }
      var factor = bitcast<f32>(route.y);
#if WEIGHT_FORMAT == fp8
      // Four rows from a multiple of four share their scales.
      factor *= WEIGHT_FACTOR * scales[(expert * SCALE_ROWS + first / 128u) * SCALE_COLUMNS + chunk / 8u];
#endif
      sums += products * factor;
    }
  }
  let total = workgroup_sum4(sums, local);
  if (local < ROWS && first + local < HIDDEN) {
    let index = token * Y_STRIDE + first + local;
#if RESIDUAL
    y[index] += total[local];
#else
    y[index] = total[local];
#endif
  }
}
