// Attention of absorbed queries over the paged latent cache, which all heads share, for one range of positions; mla/output.wgsl merges the ranges.
// A plain form, quick to compile: mla/attention_tiled.wgsl is for GPUs.
// Flash-decoding (Dao et al. 2023) with an online softmax: Milakov & Gimelshein, arXiv 1805.02867.
//
// q        [tokens, Q_STRIDE] f32, per head [LATENT | ROPE]
// cache    [blocks, BLOCK_SIZE, CACHE_ROW] in CACHE_FORMAT: latent, key part, zeros
// partial  [tokens, SPLITS, HEADS, 4 RECORD_VECTORS] f32: sum over the range of exp(score - max) * latent, zeros up to 16 CHUNKS; then max, and the
//          sum of exp(score - max). A range without positions has max -3e38 and sum 0, and its latent part is not written; such ranges come last.
//
// Dispatch: (ceil(HEADS / GROUP_HEADS), SPLITS, tokens) workgroups of WORKGROUP. Ranges are whole numbers of TILE positions, so nearly equal.
// A tile of positions has two products. Scores: an invocation has four heads and POSITIONS positions. Values: it has VECTORS times four columns, all
// GROUP_HEADS heads, and every position of the tile, so that each cached value is loaded once for all heads. Scores are f32, and so are sums.
//
// Constants, besides shapes: QUADS (of heads that a workgroup has), WORKGROUP (a multiple of QUADS), POSITIONS, VECTORS (times WORKGROUP at least 4 CHUNKS),
// Q_VECTORS (whether heads of q start at multiples of four), SCALE (of scores).
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
const GROUP_HEADS: u32 = QUADS * 4u;
const LANES: u32 = WORKGROUP / QUADS;
const TILE: u32 = LANES * POSITIONS;
const WIDTH: u32 = LATENT + ROPE;
const LATENT_VECTORS: u32 = (LATENT + 3u) / 4u;
const SUM_VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = SUM_VECTORS + 1u;

// Of the four heads of a quad, for each lane.
var<workgroup> lane_values: array<vec4<f32>, WORKGROUP>;
// [TILE, QUADS]: exp(score - max) of four heads.
var<workgroup> weights: array<vec4<f32>, TILE * QUADS>;
var<workgroup> decay: array<vec4<f32>, QUADS>;
var<workgroup> rows: array<u32, TILE>;

fn query(base: u32, vector: u32) -> vec4<f32> {
#if Q_VECTORS
  return q[base / 4u + vector];
#else
  // What lies past the head's last column meets zeros of the cache, but must not be another head's.
  var four: vec4<f32>;
  for (var i = 0u; i < 4u; i++) {
    let column = vector * 4u + i;
    four[i] = select(0.0, q[base + min(column, WIDTH - 1u)], column < WIDTH);
  }
  return four;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
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
    if (local < GROUP_HEADS && first_head + local < HEADS) {
      partial[record + local * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(NEUTRAL, 0.0, 0.0, 0.0);
    }
    return;
  }

  let quad = local / LANES;
  let lane = local % LANES;
  // Heads past the last repeat it, and write nothing.
  let heads = min(vec4<u32>(first_head + quad * 4u) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(HEADS - 1u));
  let queries = vec4<u32>(token * Q_STRIDE) + heads * WIDTH;
  var largest = vec4<f32>(NEUTRAL);
  var total = vec4<f32>(0.0);
  var sums: array<array<vec4<f32>, GROUP_HEADS>, VECTORS>;

  for (var tile = start; tile < end; tile += TILE) {
    // A lane's positions lie LANES apart; those past the end repeat the last one.
    var at: array<u32, POSITIONS>;
    var scores: array<vec4<f32>, POSITIONS>;
#unroll p < POSITIONS
      at[p] = cache_row(sequence, min(tile + p * LANES + lane, end - 1u));
      // Explicitly: on lavapipe, with both engines, an array declared in a loop kept the last iteration's values.
      scores[p] = vec4<f32>(0.0);
#endunroll
    for (var v = 0u; v < (WIDTH + 3u) / 4u; v++) {
      let q0 = query(queries.x, v);
      let q1 = query(queries.y, v);
      let q2 = query(queries.z, v);
      let q3 = query(queries.w, v);
#unroll p < POSITIONS
        let key = cached(at[p], v);
        scores[p] += vec4<f32>(dot(q0, key), dot(q1, key), dot(q2, key), dot(q3, key));
#endunroll
    }
    var lane_largest = vec4<f32>(NEUTRAL);
#unroll p < POSITIONS
      scores[p] *= SCALE;
      lane_largest = max(lane_largest, scores[p]);
#endunroll
    lane_values[local] = lane_largest;
    workgroupBarrier();
    var tile_largest = largest;
    for (var i = 0u; i < LANES; i++) {
      tile_largest = max(tile_largest, lane_values[quad * LANES + i]);
    }
    let fading = exp(largest - tile_largest);
    largest = tile_largest;
    total *= fading;
#unroll p < POSITIONS
      let place = p * LANES + lane;
      let weight = select(vec4<f32>(0.0), exp(scores[p] - largest), tile + place < end);
      total += weight;
      weights[place * QUADS + quad] = weight;
      if (quad == 0u) {
        rows[place] = at[p];
      }
#endunroll
    if (lane == 0u) {
      decay[quad] = fading;
    }
    workgroupBarrier();
#unroll n < VECTORS
      let vector = local + n * WORKGROUP;
      if (vector < LATENT_VECTORS) {
#unroll h < QUADS
          let d = decay[h];
          sums[n][h * 4u] *= d.x;
          sums[n][h * 4u + 1u] *= d.y;
          sums[n][h * 4u + 2u] *= d.z;
          sums[n][h * 4u + 3u] *= d.w;
#endunroll
        for (var p = 0u; p < min(TILE, end - tile); p++) {
          let value = cached_latents(rows[p], vector);
#unroll h < QUADS
            let w = weights[p * QUADS + h];
            sums[n][h * 4u] += w.x * value;
            sums[n][h * 4u + 1u] += w.y * value;
            sums[n][h * 4u + 2u] += w.z * value;
            sums[n][h * 4u + 3u] += w.w * value;
#endunroll
        }
      }
#endunroll
    // The next tile writes `lane_values` only, which nobody reads any more, before its first barrier.
  }

  lane_values[local] = total;
  workgroupBarrier();
  if (lane == 0u) {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < LANES; i++) {
      sum += lane_values[quad * LANES + i];
    }
    for (var i = 0u; i < 4u; i++) {
      if (first_head + quad * 4u + i < HEADS) {
        partial[record + (quad * 4u + i) * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(largest[i], sum[i], 0.0, 0.0);
      }
    }
  }
#unroll n < VECTORS
    let vector = local + n * WORKGROUP;
    if (vector < SUM_VECTORS) {
      // The last vector of latents may hold some of the key part.
      let kept = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(LATENT);
#unroll h < 4 * QUADS
        if (first_head + h < HEADS) {
          partial[record + h * RECORD_VECTORS + vector] = select(vec4<f32>(0.0), sums[n][h], kept);
        }
#endunroll
    }
#endunroll
}
