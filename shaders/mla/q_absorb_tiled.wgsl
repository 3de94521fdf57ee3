// Queries in the latent space, as mla/q_absorb.wgsl has them, for many tokens: a product blocked like any other, for each head.
//
// Bindings and result as there.
//
// Dispatch: (ceil(CHUNKS / 8), HEADS, ceil(tokens / 64)) workgroups of 256: 64 tokens by 8 chunks (one 128-column scale block), 16 rows
// of weights at a time in workgroup memory (12 KiB), the next ones on their way. An invocation has four tokens and eight columns. An fp8
// weight times its scale is rounded once to f32; sums are f32.
//
// Constants, besides shapes: Q_VECTORS (heads of q start at multiples of four, and so do their rotated parts), OUT_VECTORS (the same of
// out).
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> rope_table: array<vec2<f32>>;
#if Q_VECTORS
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read> q: array<f32>;
#endif
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
#if OUT_VECTORS
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
#endif
#if WEIGHT_FORMAT == fp8
@group(0) @binding(5) var<storage, read> scales: array<f32>;
#endif

const TILE_TOKENS: u32 = 64u;
const TILE_ROWS: u32 = 16u;

// [TILE_TOKENS, 4 vectors of rows], shuffled so that eight tokens at one vector lie in different banks.
var<workgroup> q_tile: array<vec4<f32>, TILE_TOKENS * 4u>;
// [TILE_ROWS, 32 vectors of columns]
var<workgroup> w_tile: array<vec4<f32>, TILE_ROWS * 32u>;

fn q_place(token: u32, vector: u32) -> u32 {
  return token * 4u + (vector ^ (token / 2u % 4u));
}

// Four values of the head whose first is `base`; those past the last count as zero.
fn query(base: u32, d: u32) -> vec4<f32> {
  let known = vec4<u32>(d) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(NOPE);
#if Q_VECTORS
  return select(vec4<f32>(0.0), q[(base + min(d, NOPE - 1u)) / 4u], known);
#else
  let at = vec4<u32>(base) + min(vec4<u32>(d) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(NOPE - 1u));
  return select(vec4<f32>(0.0), vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]), known);
#endif
}

fn query_pair(at: u32) -> vec2<f32> {
#if Q_VECTORS
  let four = q[at / 4u];
  return select(four.xy, four.zw, at % 4u == 2u);
#else
  return vec2<f32>(q[at], q[at + 1u]);
#endif
}

// A chunk as stored: decoded when it is staged, so that nothing waits for it before.
fn row_words(first: u32) -> array<vec4<u32>, VECTORS_PER_CHUNK> {
  var words: array<vec4<u32>, VECTORS_PER_CHUNK>;
  for (var i = 0u; i < VECTORS_PER_CHUNK; i++) {
    words[i] = weights[first * VECTORS_PER_CHUNK + i];
  }
  return words;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TILE_TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  // What this invocation stages. Tokens and chunks past the last repeat it, and are not written.
  let staged_query = min(first + local / 4u, count - 1u) * Q_STRIDE + head * (NOPE + ROPE);
  let staged_row = local / 8u % TILE_ROWS;
  let staged_chunk = min(group.x * 8u + local % 8u, CHUNKS - 1u);
  // What it computes: neighbours have eight tokens by four vectors of columns.
  let token = local / 32u % 2u * 32u + local % 8u;
  let vector = local / 64u * 8u + local / 8u % 4u;
  var a0 = vec4<f32>(0.0);
  var a1 = vec4<f32>(0.0);
  var a2 = vec4<f32>(0.0);
  var a3 = vec4<f32>(0.0);
  var b0 = vec4<f32>(0.0);
  var b1 = vec4<f32>(0.0);
  var b2 = vec4<f32>(0.0);
  var b3 = vec4<f32>(0.0);
  var next_query = query(staged_query, local % 4u * 4u);
  var next_row = min(staged_row, NOPE - 1u);
  var next_weights = row_words((head * (NOPE + VALUE) + next_row) * CHUNKS + staged_chunk);
  for (var d = 0u; d < NOPE; d += TILE_ROWS) {
    q_tile[q_place(local / 4u, local % 4u)] = next_query;
    if (local < 128u) {
      var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[(head * (NOPE + VALUE) + next_row) / 128u * SCALE_COLUMNS + group.x];
#endif
      let decoded = decode_chunk(next_weights);
      let at = staged_row * 32u + local % 8u * 4u;
      w_tile[at] = decoded[0] * factor;
      w_tile[at + 1u] = decoded[1] * factor;
      w_tile[at + 2u] = decoded[2] * factor;
      w_tile[at + 3u] = decoded[3] * factor;
    }
    workgroupBarrier();
    next_query = query(staged_query, d + TILE_ROWS + local % 4u * 4u);
    next_row = min(d + TILE_ROWS + staged_row, NOPE - 1u);
    if (local < 128u) {
      next_weights = row_words((head * (NOPE + VALUE) + next_row) * CHUNKS + staged_chunk);
    }
    for (var k = 0u; k < 4u; k++) {
      let q0 = q_tile[q_place(token, k)];
      let q1 = q_tile[q_place(token + 8u, k)];
      let q2 = q_tile[q_place(token + 16u, k)];
      let q3 = q_tile[q_place(token + 24u, k)];
      let w0 = w_tile[k * 128u + vector];
      let w1 = w_tile[k * 128u + 32u + vector];
      let w2 = w_tile[k * 128u + 64u + vector];
      let w3 = w_tile[k * 128u + 96u + vector];
      a0 = add_product(a0, q0, w0, w1, w2, w3);
      a1 = add_product(a1, q1, w0, w1, w2, w3);
      a2 = add_product(a2, q2, w0, w1, w2, w3);
      a3 = add_product(a3, q3, w0, w1, w2, w3);
      let v0 = w_tile[k * 128u + vector + 4u];
      let v1 = w_tile[k * 128u + 32u + vector + 4u];
      let v2 = w_tile[k * 128u + 64u + vector + 4u];
      let v3 = w_tile[k * 128u + 96u + vector + 4u];
      b0 = add_product(b0, q0, v0, v1, v2, v3);
      b1 = add_product(b1, q1, v0, v1, v2, v3);
      b2 = add_product(b2, q2, v0, v1, v2, v3);
      b3 = add_product(b3, q3, v0, v1, v2, v3);
    }
    workgroupBarrier();
  }
  let column = group.x * 128u + vector * 4u;
  store(first + token, count, head, column, a0);
  store(first + token + 8u, count, head, column, a1);
  store(first + token + 16u, count, head, column, a2);
  store(first + token + 24u, count, head, column, a3);
  store(first + token, count, head, column + 16u, b0);
  store(first + token + 8u, count, head, column + 16u, b1);
  store(first + token + 16u, count, head, column + 16u, b2);
  store(first + token + 24u, count, head, column + 16u, b3);
  if (group.x == 0u) {
    rotate_parts(first, min(TILE_TOKENS, count - first), head, local);
  }
}

fn add_product(sum: vec4<f32>, four: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
  return sum + w0 * four.x + w1 * four.y + w2 * four.z + w3 * four.w;
}

fn store(token: u32, count: u32, head: u32, column: u32, values: vec4<f32>) {
  if (token >= count) {
    return;
  }
  let base = token * OUT_STRIDE + head * (LATENT + ROPE) + column;
#if OUT_VECTORS
  if (column < LATENT) {
    out[base / 4u] = values;
  }
#else
  for (var i = 0u; i < 4u; i++) {
    if (column + i < LATENT) {
      out[base + i] = values[i];
    }
  }
#endif
}

fn rotated(token: u32, head: u32, pair: u32) -> vec2<f32> {
  let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
  let part = query_pair(token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + pair * 2u);
  return vec2<f32>(part.x * turn.x - part.y * turn.y, part.x * turn.y + part.y * turn.x);
}

fn rotate_parts(first: u32, tokens: u32, head: u32, local: u32) {
#if OUT_VECTORS
  for (var i = local; i < tokens * (ROPE / 4u); i += 256u) {
    let token = first + i / (ROPE / 4u);
    let pair = i % (ROPE / 4u) * 2u;
    let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
    out[base / 4u] = vec4<f32>(rotated(token, head, pair), rotated(token, head, pair + 1u));
  }
#else
  for (var i = local; i < tokens * (ROPE / 2u); i += 256u) {
    let token = first + i / (ROPE / 2u);
    let pair = i % (ROPE / 2u);
    let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
    let turned = rotated(token, head, pair);
    out[base] = turned.x;
    out[base + 1u] = turned.y;
  }
#endif
}
