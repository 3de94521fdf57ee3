// h[t, slot] = silu(W_gate x[t]) * (W_up x[t]) with the experts that the routing names, summed exactly (lib/exactSum.wgsl): experts/gate_up_few.wgsl, the same on every device.
//
// x        [tokens, X_STRIDE] f32, columns 0 .. 16 CHUNKS
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: gate [WIDTH, 16 CHUNKS], up [WIDTH, 16 CHUNKS] in WEIGHT_FORMAT (lib/expert_pages.wgsl)
// scales   [experts, 2, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// h        [tokens * SLOTS, H_STRIDE] f32, columns 0 .. WIDTH
//
// Dispatch: (ceil(WIDTH / 4), SLOTS, tokens) workgroups of WORKGROUP, four rows each of gate and up. Workgroups whose expert is not bound exit.
// Gate and up are each rounded to f32, then silu's result, then the product: as PyTorch has it.
#include "lib/expert_pages.wgsl"
#include "lib/exactRows.wgsl"
#include "lib/precise.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
  var gates = no_rows();
  var ups = no_rows();
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let base = group.z * (X_STRIDE / 4u) + chunk * 4u;
    let input = array<vec4<f32>, 4>(x[base], x[base + 1u], x[base + 2u], x[base + 3u]);
    var gate_factor = WEIGHT_FACTOR;
    var up_factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    gate_factor *= scales[gate_scales + chunk / 8u];
    up_factor *= scales[up_scales + chunk / 8u];
#endif
    for (var r = 0u; r < ROWS; r++) {
      gates[r] = add_chunk(gates[r], page_chunk(page, gate_rows[r] + chunk), input, gate_factor);
      ups[r] = add_chunk(ups[r], page_chunk(page, up_rows[r] + chunk), input, up_factor);
    }
  }
  let gate = rounded(exact_workgroup_sum(exact_across(gates[0], gates[1], gates[2], gates[3]), local));
  let up = rounded(exact_workgroup_sum(exact_across(ups[0], ups[1], ups[2], ups[3]), local));
  let result = precise_silu(gate) * up;
  if (local < ROWS && first + local < WIDTH) {
    h[row_of_h * H_STRIDE + first + local] = result[local];
  }
}
