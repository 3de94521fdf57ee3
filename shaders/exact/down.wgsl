// y[t] = (y[t] +) sum over slots of weight * (W_down h[t, slot]) with the experts and weights that the routing names, summed exactly (lib/exactSum.wgsl) and rounded once:
// experts/down_few.wgsl, the same on every device.
//
// h        [tokens * SLOTS, 16 CHUNKS] f32, zero beyond the experts' width
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: down [HIDDEN, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales   [experts, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// y        [tokens, Y_STRIDE] f32, columns 0 .. HIDDEN; with RESIDUAL the sums are added to it
//
// Dispatch: (ceil(HIDDEN / 4), tokens) workgroups of WORKGROUP, four rows each. Experts not bound add nothing.
#include "lib/expert_pages.wgsl"
#include "lib/exactRows.wgsl"

@group(0) @binding(0) var<storage, read> h: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
  let first = group.x * ROWS;
  // The last workgroup repeats the last row rather than reading past the end.
  let rows = min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(HIDDEN - 1u));
  var sums = no_rows();
  for (var slot = 0u; slot < SLOTS; slot++) {
    let route = routing[token * SLOTS + slot];
    let expert = route.x;
    if (expert_bound(expert)) {
      let page = expert_page(expert);
      var slot_sums = no_rows();
      for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
        let base = ((token * SLOTS + slot) * CHUNKS + chunk) * 4u;
        let input = array<vec4<f32>, 4>(h[base], h[base + 1u], h[base + 2u], h[base + 3u]);
        var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
        // Four rows from a multiple of four share their scales.
        factor *= scales[(expert * SCALE_ROWS + first / 128u) * SCALE_COLUMNS + chunk / 8u];
#endif
        for (var r = 0u; r < ROWS; r++) {
          slot_sums[r] = add_chunk(slot_sums[r], page_chunk(page, (expert_in_page(expert) * HIDDEN + rows[r]) * CHUNKS + chunk), input, factor);
        }
      }
      let weight = vec4<f32>(bitcast<f32>(route.y));
      for (var r = 0u; r < ROWS; r++) {
        sums[r] = exact_add_scaled(sums[r], slot_sums[r], weight);
      }
    }
  }
  let total = exact_workgroup_sum(exact_across(sums[0], sums[1], sums[2], sums[3]), local);
  if (local < ROWS && first + local < HIDDEN) {
    let index = token * Y_STRIDE + first + local;
#if RESIDUAL
    let before = ExactSum(vec4<f32>(y[index]), vec4<f32>(0.0));
    y[index] = rounded(exact_add(before, total.hi, total.lo))[local];
#else
    y[index] = rounded(total)[local];
#endif
  }
}
