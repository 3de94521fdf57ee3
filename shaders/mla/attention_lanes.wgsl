// Attention over the paged latent cache, as mla/attention.wgsl has it, by one subgroup a workgroup and without barriers: for software adapters, where a barrier costs more than the products
// of many positions.
//
// A lane has every LANES th vector of four columns, of the queries, the cache's rows and the sums. A position's score is a sum over the lanes, and the softmax is rescaled at every position.
//
// Bindings and records: those of mla/attention.wgsl. Dispatch: (ceil(HEADS / GROUP_HEADS), SPLITS, tokens) workgroups of LANES. Ranges are whole numbers of TILE positions.
// Constants, besides shapes: GROUP_HEADS, LANES (the subgroup size), VECTORS (times LANES at least the vectors of a row and of a record), Q_VECTORS, SCALE (of scores).
#include "lib/batch.wgsl"
#include "lib/kv_rows.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
#if Q_VECTORS
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read> q: array<f32>;
#endif
@group(0) @binding(3) var<storage, read> cache: array<CacheUnit>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;

const NEUTRAL: f32 = -3e38;
const TILE: u32 = 16u;
const WIDTH: u32 = LATENT + ROPE;
const WIDTH_VECTORS: u32 = (WIDTH + 3u) / 4u;
const SUM_VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = SUM_VECTORS + 1u;

// Zeros beyond the row.
fn query(base: u32, vector: u32) -> vec4<f32> {
#if Q_VECTORS
  return select(vec4<f32>(0.0), q[base / 4u + min(vector, WIDTH_VECTORS - 1u)], vector < WIDTH_VECTORS);
#else
  var four: vec4<f32>;
  for (var i = 0u; i < 4u; i++) {
    let column = vector * 4u + i;
    four[i] = select(0.0, q[base + min(column, WIDTH - 1u)], column < WIDTH);
  }
  return four;
#endif
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = group.z;
  if (token >= token_count()) {
    return;
  }
  let first_head = group.x * GROUP_HEADS;
  let record = ((token * SPLITS + group.y) * HEADS + first_head) * RECORD_VECTORS;
  let length = token_position(token) + 1u;
  let sequence = token_sequence(token);
  let span = ((length + TILE - 1u) / TILE + SPLITS - 1u) / SPLITS * TILE;
  let start = group.y * span;
  let end = min(start + span, length);
  if (start >= end) {
    for (var h = lane; h < min(GROUP_HEADS, HEADS - first_head); h += LANES) {
      partial[record + h * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(NEUTRAL, 0.0, 0.0, 0.0);
    }
    return;
  }

  // Heads past the last repeat it, and write nothing.
  var queries: array<vec4<f32>, GROUP_HEADS * VECTORS>;
#unroll h < GROUP_HEADS
#unroll n < VECTORS
  queries[h * VECTORS + n] = query(token * Q_STRIDE + min(first_head + h, HEADS - 1u) * WIDTH, lane + n * LANES) * SCALE;
#endunroll
#endunroll
  var sums = array<vec4<f32>, GROUP_HEADS * VECTORS>();
  var largest: array<f32, GROUP_HEADS>;
  var total = array<f32, GROUP_HEADS>();
#unroll h < GROUP_HEADS
  largest[h] = NEUTRAL;
#endunroll

  for (var position = start; position < end; position++) {
    let at = cache_row(sequence, position);
    var row: array<vec4<f32>, VECTORS>;
#unroll n < VECTORS
    // Vectors past the row repeat its last, and meet zeros of the queries.
    row[n] = cached(at, min(lane + n * LANES, WIDTH_VECTORS - 1u));
#endunroll
#unroll h < GROUP_HEADS
    var product = 0.0;
#unroll n < VECTORS
    product += dot(queries[h * VECTORS + n], row[n]);
#endunroll
    let score = subgroupAdd(product);
    let next = max(largest[h], score);
    let fading = exp(largest[h] - next);
    let weight = exp(score - next);
    largest[h] = next;
    total[h] = total[h] * fading + weight;
#unroll n < VECTORS
    sums[h * VECTORS + n] = sums[h * VECTORS + n] * fading + row[n] * weight;
#endunroll
#endunroll
  }

#unroll h < GROUP_HEADS
  if (first_head + h < HEADS) {
    let base = record + h * RECORD_VECTORS;
    if (lane == 0u) {
      partial[base + SUM_VECTORS] = vec4<f32>(largest[h], total[h], 0.0, 0.0);
    }
#unroll n < VECTORS
    let vector = lane + n * LANES;
    if (vector < SUM_VECTORS) {
      // The last vector of latents may hold some of the key part.
      let kept = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(LATENT);
      partial[base + vector] = select(vec4<f32>(0.0), sums[h * VECTORS + n], kept);
    }
#endunroll
  }
#endunroll
}
