// Queries in the latent space, as mla/q_absorb.wgsl has them, for a few tokens: as many loads of weights in flight as a GPU's memory
// wants.
//
// Bindings and result as there.
//
// Dispatch: (ceil(CHUNKS / 8), HEADS, ceil(tokens / TOKENS)) workgroups of WORKGROUP: 8 chunks (one 128-column scale block) by WORKGROUP
// / 8 slices of d. An invocation loads four rows' chunks before it uses the first; slices' sums are added in workgroup memory. The
// weights of a group's second token come from the nearest cache. Sums are f32.
//
// Constants, besides shapes: WORKGROUP (a multiple of 32, 256 at most), TOKENS.
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

const SLICES: u32 = WORKGROUP / 8u;
// Groups of 32 invocations that each add four slices, for 32 vectors of four columns.
const PARTS: u32 = WORKGROUP / 32u;

// [4 vectors, SLICES, 8 chunks]; then [PARTS, 4 vectors, 8 chunks].
var<workgroup> slice_sums: array<vec4<f32>, WORKGROUP * 4u>;

// What row d of the head is multiplied by. Rows past the last count as zero.
fn row_factor(query: u32, head: u32, d: u32, scale_column: u32) -> f32 {
  let row = min(d, NOPE - 1u);
  var factor = select(0.0, WEIGHT_FACTOR, d < NOPE) * q[query + row];
#if WEIGHT_FORMAT == fp8
  factor *= scales[(head * (NOPE + VALUE) + row) / 128u * SCALE_COLUMNS + scale_column];
#endif
  return factor;
}

fn row_words(head: u32, d: u32, chunk: u32) -> array<vec4<u32>, VECTORS_PER_CHUNK> {
  let first = ((head * (NOPE + VALUE) + min(d, NOPE - 1u)) * CHUNKS + chunk) * VECTORS_PER_CHUNK;
  var words: array<vec4<u32>, VECTORS_PER_CHUNK>;
  for (var i = 0u; i < VECTORS_PER_CHUNK; i++) {
    words[i] = weights[first + i];
  }
  return words;
}

@compute @workgroup_size(WORKGROUP)
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
  let end = min(first + TOKENS, count);
  for (var token = first; token < end; token++) {
    let query = token * Q_STRIDE + head * (NOPE + ROPE);
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    for (var d = slice; d < NOPE; d += 4u * SLICES) {
      let words0 = row_words(head, d, chunk);
      let words1 = row_words(head, d + SLICES, chunk);
      let words2 = row_words(head, d + 2u * SLICES, chunk);
      let words3 = row_words(head, d + 3u * SLICES, chunk);
      let factor0 = row_factor(query, head, d, group.x);
      let factor1 = row_factor(query, head, d + SLICES, group.x);
      let factor2 = row_factor(query, head, d + 2u * SLICES, group.x);
      let factor3 = row_factor(query, head, d + 3u * SLICES, group.x);
      let a = decode_chunk(words0);
      let b = decode_chunk(words1);
      let c = decode_chunk(words2);
      let e = decode_chunk(words3);
      sum0 += a[0] * factor0 + b[0] * factor1 + c[0] * factor2 + e[0] * factor3;
      sum1 += a[1] * factor0 + b[1] * factor1 + c[1] * factor2 + e[1] * factor3;
      sum2 += a[2] * factor0 + b[2] * factor1 + c[2] * factor2 + e[2] * factor3;
      sum3 += a[3] * factor0 + b[3] * factor1 + c[3] * factor2 + e[3] * factor3;
    }
    slice_sums[local] = sum0;
    slice_sums[WORKGROUP + local] = sum1;
    slice_sums[2u * WORKGROUP + local] = sum2;
    slice_sums[3u * WORKGROUP + local] = sum3;
    workgroupBarrier();
    let at = local / 8u % 4u * WORKGROUP + local / 32u * 32u + local % 8u;
    let some = slice_sums[at] + slice_sums[at + 8u] + slice_sums[at + 16u] + slice_sums[at + 24u];
    workgroupBarrier();
    slice_sums[local] = some;
    workgroupBarrier();
    if (local < 32u) {
      var total = some;
      for (var part = 1u; part < PARTS; part++) {
        total += slice_sums[part * 32u + local];
      }
      store(token, head, group.x * 128u + local % 8u * 16u + local / 8u * 4u, total);
    }
    if (group.x == 0u) {
      for (var pair = local; pair < ROPE / 2u; pair += WORKGROUP) {
        let part = query + NOPE + pair * 2u;
        let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
        let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
        out[base] = q[part] * turn.x - q[part + 1u] * turn.y;
        out[base + 1u] = q[part] * turn.y + q[part + 1u] * turn.x;
      }
    }
    workgroupBarrier();
  }
}

fn store(token: u32, head: u32, column: u32, values: vec4<f32>) {
  let base = token * OUT_STRIDE + head * (LATENT + ROPE) + column;
  for (var i = 0u; i < 4u; i++) {
    if (column + i < LATENT) {
      out[base + i] = values[i];
    }
  }
}
