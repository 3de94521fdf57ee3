// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj, as mla/output.wgsl has them, for many tokens:
// a product blocked like any other, for each head.
//
// Bindings and result as there.
//
// Dispatch: (ceil(VALUE / 128), HEADS, ceil(tokens / 64)) workgroups of 256: 64 tokens by 128 values, one chunk of latents at a time in
// workgroup memory (12 KiB, and 256 bytes a range), the next one on its way. An invocation has four tokens and eight values. An fp8
// weight times its scale is rounded once to f32; sums are f32.
//
// Constants, besides shapes: OUT_VECTORS (rows of out and heads start at multiples of four).
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
#if OUT_VECTORS
@group(0) @binding(3) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#endif
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

const TILE_TOKENS: u32 = 64u;
const RECORD_VECTORS: u32 = CHUNKS * 4u + 1u;

// Both [rows, 4 vectors of latents], shuffled so that what neighbours read at one vector lies in different banks: eight tokens, and every
// fourth of sixteen values.
var<workgroup> o_tile: array<vec4<f32>, TILE_TOKENS * 4u>;
var<workgroup> w_tile: array<vec4<f32>, 512>;
// [TILE_TOKENS, SPLITS]: what a range's latents are multiplied by.
var<workgroup> shares: array<f32, TILE_TOKENS * SPLITS>;

fn o_place(token: u32, vector: u32) -> u32 {
  return token * 4u + (vector ^ (token / 2u % 4u));
}

fn w_place(value: u32, vector: u32) -> u32 {
  return value * 4u + (vector ^ (value / 4u % 4u));
}

// Writes a token's shares: one invocation for each token.
fn weigh_ranges(tile_token: u32, record: u32) {
  var largest = -3e38;
  for (var s = 0u; s < SPLITS; s++) {
    largest = max(largest, partial[record + s * HEADS * RECORD_VECTORS + CHUNKS * 4u].x);
  }
  var total = 0.0;
  for (var s = 0u; s < SPLITS; s++) {
    let range = partial[record + s * HEADS * RECORD_VECTORS + CHUNKS * 4u];
    let factor = select(0.0, exp(range.x - largest), range.y > 0.0);
    total += range.y * factor;
    shares[tile_token * SPLITS + s] = factor;
  }
  for (var s = 0u; s < SPLITS; s++) {
    shares[tile_token * SPLITS + s] /= total;
  }
}

#if SPLITS == 1
fn attended(record: u32, vector: u32) -> vec4<f32> {
  return partial[record + vector];
}

fn merged(tile_token: u32, record: u32, vector: u32, ahead: vec4<f32>) -> vec4<f32> {
  return ahead * shares[tile_token];
}
#else
// Nothing is loaded ahead.
fn attended(record: u32, vector: u32) -> vec4<f32> {
  return vec4<f32>(0.0);
}

fn merged(tile_token: u32, record: u32, vector: u32, ahead: vec4<f32>) -> vec4<f32> {
  var sum = vec4<f32>(0.0);
  for (var s = 0u; s < SPLITS; s++) {
    let share = shares[tile_token * SPLITS + s];
    // The latents of an empty range were not written.
    if (share > 0.0) {
      sum += partial[record + s * HEADS * RECORD_VECTORS + vector] * share;
    }
  }
  return sum;
}
#endif

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
  let first_value = group.x * 128u;
  // What this invocation stages. Tokens and values past the last repeat it, and are not written.
  let staged_token = local / 4u;
  let record = (min(first + staged_token, count - 1u) * SPLITS * HEADS + head) * RECORD_VECTORS;
  let row = head * (NOPE + VALUE) + NOPE + min(first_value + local % 128u, VALUE - 1u);
  if (local % 4u == 0u) {
    weigh_ranges(staged_token, record);
  }
  workgroupBarrier();
  // What it computes: neighbours have eight tokens by four vectors of values.
  let token = local / 32u % 2u * 32u + local % 8u;
  let value = (local / 64u * 8u + local / 8u % 4u) * 4u;
  var a0 = vec4<f32>(0.0);
  var a1 = vec4<f32>(0.0);
  var a2 = vec4<f32>(0.0);
  var a3 = vec4<f32>(0.0);
  var b0 = vec4<f32>(0.0);
  var b1 = vec4<f32>(0.0);
  var b2 = vec4<f32>(0.0);
  var b3 = vec4<f32>(0.0);
  var next_latents = attended(record, local % 4u);
  var next_weights = row_words(row * CHUNKS);
  for (var chunk = 0u; chunk < CHUNKS; chunk++) {
    o_tile[o_place(staged_token, local % 4u)] = merged(staged_token, record, chunk * 4u + local % 4u, next_latents);
    if (local < 128u) {
      var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
      let decoded = decode_chunk(next_weights);
      w_tile[w_place(local, 0u)] = decoded[0] * factor;
      w_tile[w_place(local, 1u)] = decoded[1] * factor;
      w_tile[w_place(local, 2u)] = decoded[2] * factor;
      w_tile[w_place(local, 3u)] = decoded[3] * factor;
    }
    workgroupBarrier();
    let next = min(chunk + 1u, CHUNKS - 1u);
    next_latents = attended(record, next * 4u + local % 4u);
    if (local < 128u) {
      next_weights = row_words(row * CHUNKS + next);
    }
    for (var k = 0u; k < 4u; k++) {
      let o0 = o_tile[o_place(token, k)];
      let o1 = o_tile[o_place(token + 8u, k)];
      let o2 = o_tile[o_place(token + 16u, k)];
      let o3 = o_tile[o_place(token + 24u, k)];
      let w = four_values(value, k);
      a0 = add_product(a0, o0, w);
      a1 = add_product(a1, o1, w);
      a2 = add_product(a2, o2, w);
      a3 = add_product(a3, o3, w);
      let v = four_values(value + 16u, k);
      b0 = add_product(b0, o0, v);
      b1 = add_product(b1, o1, v);
      b2 = add_product(b2, o2, v);
      b3 = add_product(b3, o3, v);
    }
    workgroupBarrier();
  }
  store(first + token, count, head, first_value + value, a0);
  store(first + token + 8u, count, head, first_value + value, a1);
  store(first + token + 16u, count, head, first_value + value, a2);
  store(first + token + 24u, count, head, first_value + value, a3);
  store(first + token, count, head, first_value + value + 16u, b0);
  store(first + token + 8u, count, head, first_value + value + 16u, b1);
  store(first + token + 16u, count, head, first_value + value + 16u, b2);
  store(first + token + 24u, count, head, first_value + value + 16u, b3);
}

// Four latents of four values, by latents.
fn four_values(value: u32, vector: u32) -> mat4x4<f32> {
  let by_value = mat4x4<f32>(
    w_tile[w_place(value, vector)], w_tile[w_place(value + 1u, vector)],
    w_tile[w_place(value + 2u, vector)], w_tile[w_place(value + 3u, vector)]);
  return transpose(by_value);
}

fn add_product(sum: vec4<f32>, latents: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  return sum + w[0] * latents.x + w[1] * latents.y + w[2] * latents.z + w[3] * latents.w;
}

fn store(token: u32, count: u32, head: u32, value: u32, values: vec4<f32>) {
  if (token >= count) {
    return;
  }
  let base = token * OUT_STRIDE + head * VALUE + value;
#if OUT_VECTORS
  if (value < VALUE) {
    out[base / 4u] = values;
  }
#else
  for (var i = 0u; i < 4u; i++) {
    if (value + i < VALUE) {
      out[base + i] = values[i];
    }
  }
#endif
}
