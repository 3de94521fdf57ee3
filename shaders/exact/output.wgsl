// The attended latents times the value rows of kv_b_proj, summed exactly (lib/exactSum.wgsl): out[t, h, j] = sum over c of o[t, h, c] * W[h (NOPE + VALUE) + NOPE + j, c]:
// mla/output.wgsl, the same on every device.
//
// attended [tokens, HEADS, 16 CHUNKS] f32, as exact/attention.wgsl writes it
// weights  kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// out      [tokens, OUT_STRIDE] f32, per head VALUE
//
// Dispatch: (ceil(VALUE / 4), HEADS, tokens) workgroups of WORKGROUP; rows beyond the batch's count are left as they are.
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"
#include "lib/exactRows.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> attended: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.z;
  if (token >= token_count()) {
    return;
  }
  let head = group.y;
  let first = group.x * ROWS;
  // Values past the last repeat it, and are not written.
  let rows = vec4<u32>(head * (NOPE + VALUE) + NOPE) + min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(VALUE - 1u));
  var sums = no_rows();
  for (var chunk = local; chunk < CHUNKS; chunk += WORKGROUP) {
    let base = ((token * HEADS + head) * CHUNKS + chunk) * 4u;
    let input = array<vec4<f32>, 4>(attended[base], attended[base + 1u], attended[base + 2u], attended[base + 3u]);
    for (var r = 0u; r < ROWS; r++) {
      var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[rows[r] / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
      sums[r] = add_chunk(sums[r], load_chunk(rows[r] * CHUNKS + chunk), input, factor);
    }
  }
  let total = exact_workgroup_sum(exact_across(sums[0], sums[1], sums[2], sums[3]), local);
  if (local < ROWS && first + local < VALUE) {
    out[token * OUT_STRIDE + head * VALUE + first + local] = rounded(total)[local];
  }
}
