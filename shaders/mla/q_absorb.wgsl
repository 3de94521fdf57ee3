// Queries in the latent space: out[t, h, c] = sum over d of q[t, h, d] * W[h (NOPE + VALUE) + d, c], and the rotated query part beside it.
//
// q           [tokens, Q_STRIDE] f32, per head [NOPE | ROPE]
// weights     kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// rope_table  [positions, ROPE / 2] of (cos, sin)
// out         [tokens, OUT_STRIDE] f32, per head [LATENT | ROPE]
//
// Dispatch: (ceil(CHUNKS / 8), HEADS, ceil(tokens / TOKENS)) workgroups of 64: 8 chunks (one 128-column scale block) by 8 slices of d, whose sums are added
// in workgroup memory. Weights are decoded once for TOKENS tokens. A head's rows may straddle two rows of scales. Sums are f32.
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(5) var<storage, read> scales: array<f32>;
#endif

const SLICES: u32 = 8u;
// Index = (slice * 8 + chunk) * 4 + vector.
var<workgroup> partial: array<vec4<f32>, 256>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  let slice = local / 8u;
  // Lanes past the last chunk repeat it, and write nothing.
  let chunk = min(group.x * 8u + local % 8u, CHUNKS - 1u);
  var sums: array<array<vec4<f32>, 4>, TOKENS>;
  for (var d = slice; d < NOPE; d += SLICES) {
    let row = head * (NOPE + VALUE) + d;
    let values = load_chunk(row * CHUNKS + chunk);
    var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    factor *= scales[row / 128u * SCALE_COLUMNS + group.x];
#endif
    for (var t = 0u; t < TOKENS; t++) {
      let token = min(first + t, count - 1u);
      let weight = q[token * Q_STRIDE + head * (NOPE + ROPE) + d] * factor;
      sums[t][0] += values[0] * weight;
      sums[t][1] += values[1] * weight;
      sums[t][2] += values[2] * weight;
      sums[t][3] += values[3] * weight;
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    for (var v = 0u; v < 4u; v++) {
      partial[local * 4u + v] = sums[t][v];
    }
    workgroupBarrier();
    // 32 vectors of four columns: invocation `local` adds two columns of one.
    var total = vec2<f32>(0.0);
    let vector = local / 2u;
    for (var s = 0u; s < SLICES; s++) {
      let four = partial[s * 32u + vector];
      total += select(four.xy, four.zw, local % 2u == 1u);
    }
    workgroupBarrier();
    let column = group.x * 128u + local * 2u;
    let base = (first + t) * OUT_STRIDE + head * (LATENT + ROPE);
    if (first + t < count) {
      if (column < LATENT) {
        out[base + column] = total.x;
      }
      if (column + 1u < LATENT) {
        out[base + column + 1u] = total.y;
      }
    }
  }
  if (group.x == 0u) {
    for (var i = local; i < TOKENS * (ROPE / 2u); i += 64u) {
      let token = first + i / (ROPE / 2u);
      let pair = i % (ROPE / 2u);
      if (token < count) {
        let at = token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + pair * 2u;
        let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
        let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
        out[base] = q[at] * turn.x - q[at + 1u] * turn.y;
        out[base + 1u] = q[at] * turn.y + q[at + 1u] * turn.x;
      }
    }
  }
}
