// Queries in the latent space: out[t, h, c] = sum over d of q[t, h, d] * W[h (NOPE + VALUE) + d, c], and the rotated query part beside it.
//
// q           [tokens, Q_STRIDE] f32, per head [NOPE | ROPE]
// weights     kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// rope_table  [positions, ROPE / 2] of (cos, sin)
// out         [tokens, OUT_STRIDE] f32, per head [LATENT | ROPE]
//
// Dispatch: (ceil(CHUNKS / 8), HEADS, ceil(tokens / (TOKENS * TOKEN_GROUPS))) workgroups of 64: 8 chunks (one 128-column scale block) by
// - SLICES = 8 slices of d, whose sums are added in workgroup memory: few tokens, many loads in flight; or
// - TOKEN_GROUPS = 8 groups of tokens, which need no such addition: many tokens. The other of the two constants is 1.
// With neither workgroups are of 8, without barriers, which cost software adapters more than the products.
// An invocation has TOKENS tokens (4 at most with slices), and decodes its weights once for all of them. A head's rows may straddle two rows of scales.
// Sums are f32.
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

#if SLICED
const SLICES: u32 = 8u;
// Index = ((token * SLICES + slice) * 8 + chunk) * 4 + vector.
var<workgroup> slice_sums: array<vec4<f32>, TOKENS * 256u>;
#else
const SLICES: u32 = 1u;
#endif
const WORKGROUP: u32 = 8u * SLICES * TOKEN_GROUPS;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let group_first = group.z * TOKENS * TOKEN_GROUPS;
  let count = token_count();
  if (group_first >= count) {
    return;
  }
  let head = group.y;
  let part = local / 8u;
#if SLICED
  let slice = part;
  let first = group_first;
#else
  let slice = 0u;
  let first = group_first + part * TOKENS;
#endif
  // Lanes past the last chunk repeat it, and tokens past the last repeat that; they write nothing.
  let chunk = min(group.x * 8u + local % 8u, CHUNKS - 1u);
  var queries: array<u32, TOKENS>;
#unroll t < TOKENS
    queries[t] = min(first + t, count - 1u) * Q_STRIDE + head * (NOPE + ROPE);
#endunroll
  var sums: array<array<vec4<f32>, 4>, TOKENS>;
  for (var d = slice; d < NOPE; d += SLICES) {
    let row = head * (NOPE + VALUE) + d;
    let values = load_chunk(row * CHUNKS + chunk);
    var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    factor *= scales[row / 128u * SCALE_COLUMNS + group.x];
#endif
#unroll t < TOKENS
      let weight = q[queries[t] + d] * factor;
      sums[t][0] += values[0] * weight;
      sums[t][1] += values[1] * weight;
      sums[t][2] += values[2] * weight;
      sums[t][3] += values[3] * weight;
#endunroll
  }
#if SLICED
#unroll t < TOKENS
    let base = (t * 64u + local) * 4u;
    slice_sums[base] = sums[t][0];
    slice_sums[base + 1u] = sums[t][1];
    slice_sums[base + 2u] = sums[t][2];
    slice_sums[base + 3u] = sums[t][3];
#endunroll
  workgroupBarrier();
  // 32 vectors of four columns a token.
  for (var i = local; i < min(TOKENS, count - first) * 32u; i += 64u) {
    var total = vec4<f32>(0.0);
    for (var s = 0u; s < SLICES; s++) {
      total += slice_sums[i / 32u * 256u + s * 32u + i % 32u];
    }
    store(first + i / 32u, head, group.x * 128u + i % 32u * 4u, total);
  }
#else
  if (group.x * 8u + local % 8u < CHUNKS) {
#unroll t < TOKENS
      if (first + t < count) {
#unroll v < 4
        store(first + t, head, chunk * 16u + v * 4u, sums[t][v]);
#endunroll
      }
#endunroll
  }
#endif
  if (group.x == 0u) {
    let tokens = min(TOKENS * TOKEN_GROUPS, count - group_first);
    for (var i = local; i < tokens * (ROPE / 2u); i += WORKGROUP) {
      let token = group_first + i / (ROPE / 2u);
      let pair = i % (ROPE / 2u);
      let at = token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + pair * 2u;
      let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
      let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
      out[base] = q[at] * turn.x - q[at + 1u] * turn.y;
      out[base + 1u] = q[at] * turn.y + q[at + 1u] * turn.x;
    }
  }
}

fn store(token: u32, head: u32, column: u32, values: vec4<f32>) {
  let base = token * OUT_STRIDE + head * (LATENT + ROPE) + column;
#unroll i < 4
  if (column + i < LATENT) {
    out[base + i] = values[i];
  }
#endunroll
}
