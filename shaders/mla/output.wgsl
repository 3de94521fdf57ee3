// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj: out[t, h, j] = sum over c of o[t, h, c] * W[h (NOPE + VALUE) + NOPE + j, c].
//
// partial  [tokens, SPLITS, HEADS, 4 RECORD_VECTORS] f32, as mla/attention.wgsl writes it
// weights  kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// out      [tokens, OUT_STRIDE] f32, per head VALUE
//
// Dispatch: (ceil(VALUE / 64), HEADS, ceil(tokens / TOKENS)) workgroups of 128. They merge TOKENS latents into workgroup memory; then 16 groups of 8
// invocations have four rows each, and an invocation every eighth chunk of them, so that loads are of 128 bytes. Sums are f32.
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

const WORKGROUP: u32 = 128u;
const LANES: u32 = 8u;
const VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = VECTORS + 1u;

// [TOKENS, VECTORS]
var<workgroup> latents: array<vec4<f32>, TOKENS * VECTORS>;
// [TOKENS, WORKGROUP]: four rows' sums, for each invocation.
var<workgroup> lane_sums: array<vec4<f32>, TOKENS * WORKGROUP>;

fn merged(token: u32, head: u32, vector: u32) -> vec4<f32> {
#if SPLITS == 1
  let record = (token * HEADS + head) * RECORD_VECTORS;
  return partial[record + vector] / partial[record + VECTORS].y;
#else
  var largest = -3e38;
  for (var s = 0u; s < SPLITS; s++) {
    largest = max(largest, partial[((token * SPLITS + s) * HEADS + head) * RECORD_VECTORS + VECTORS].x);
  }
  var total = 0.0;
  var sum = vec4<f32>(0.0);
  for (var s = 0u; s < SPLITS; s++) {
    let record = ((token * SPLITS + s) * HEADS + head) * RECORD_VECTORS;
    let range = partial[record + VECTORS];
    // The latents of an empty range were not written.
    if (range.y > 0.0) {
      let factor = exp(range.x - largest);
      total += range.y * factor;
      sum += partial[record + vector] * factor;
    }
  }
  return sum / total;
#endif
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  for (var i = local; i < TOKENS * VECTORS; i += WORKGROUP) {
    latents[i] = merged(min(first + i / VECTORS, count - 1u), head, i % VECTORS);
  }
  workgroupBarrier();
  let lane = local % LANES;
  let first_value = group.x * 64u;
  // Values past the last repeat it, and are not written.
  let values = min(vec4<u32>(first_value + local / LANES * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(VALUE - 1u));
  let rows = vec4<u32>(head * (NOPE + VALUE) + NOPE) + values;
  var sums: array<vec4<f32>, TOKENS>;
  for (var chunk = lane; chunk < CHUNKS; chunk += LANES) {
#unroll r < 4
      let w = load_chunk(rows[r] * CHUNKS + chunk);
      var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[rows[r] / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
#unroll t < TOKENS
        let base = t * VECTORS + chunk * 4u;
        sums[t][r] += (dot(w[0], latents[base]) + dot(w[1], latents[base + 1u]) + dot(w[2], latents[base + 2u]) + dot(w[3], latents[base + 3u])) * factor;
#endunroll
#endunroll
  }
#unroll t < TOKENS
  lane_sums[t * WORKGROUP + local] = sums[t];
#endunroll
  workgroupBarrier();
  for (var i = local; i < min(TOKENS, count - first) * 64u; i += WORKGROUP) {
    let value = i % 64u;
    if (first_value + value < VALUE) {
      var total = 0.0;
      for (var n = 0u; n < LANES; n++) {
        total += lane_sums[i / 64u * WORKGROUP + value / 4u * LANES + n][value % 4u];
      }
      out[(first + i / 64u) * OUT_STRIDE + head * VALUE + first_value + value] = total;
    }
  }
}
