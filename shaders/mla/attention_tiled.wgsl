// Attention of absorbed queries over the paged latent cache, which all heads share, for one range of positions; mla/output.wgsl merges
// the ranges.
// Flash-decoding (Dao et al. 2023) with an online softmax: Milakov & Gimelshein, arXiv 1805.02867.
//
// q        [tokens, Q_STRIDE] f32, per head [LATENT | ROPE]
// cache    [blocks, BLOCK_SIZE, CACHE_ROW] in CACHE_FORMAT: latent, key part, zeros
// partial  [tokens, SPLITS, HEADS, 4 RECORD_VECTORS] f32: sum over the range of exp(score - max) * latent, zeros up to 16 CHUNKS; then
//          max, and the sum of exp(score - max). A range without positions has max -3e38 and sum 0, and its latent part is not written;
//          such ranges come last.
//
// Dispatch: (ceil(HEADS / GROUP_HEADS), SPLITS, tokens) workgroups of GROUP_HEADS * TILE / 4. A tile of positions has two products,
// blocked in registers:
// - scores [GROUP_HEADS, TILE]: an invocation has eight heads, four positions and every eighth vector of the columns. Eight neighbours
//   (SLICES) have the other columns, so that a head's or a position's loads lie together; their sums are added in workgroup memory, in
//   ROUNDS, which divide what that takes.
// - values [GROUP_HEADS, 4 VALUE_LANES]: an invocation has VALUE_QUADS times four heads and four columns, and every position.
// Cached rows are not staged: neighbours load whole lines, and the groups of a workgroup that share them find them in the nearest cache.
// Scores are f32, and so are sums.
//
// Constants, besides shapes: GROUP_HEADS (a multiple of 8), TILE (64, or 32: an invocation then has 16 heads of the values), ROUNDS (1, 2
// or 4), VECTORS (times VALUE_LANES at least 4 CHUNKS), WHOLE_GROUPS (GROUP_HEADS divides HEADS), Q_VECTORS (heads of q start at
// multiples of four), SCALE (of scores).
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
const SLICES: u32 = 8u;
const POSITIONS: u32 = 4u;
const WORKGROUP: u32 = GROUP_HEADS * TILE / 4u;
const QUADS: u32 = GROUP_HEADS / 4u;
// Invocations that have the same heads and columns of the scores, and different positions.
const PLACES: u32 = TILE / POSITIONS;
// Sums that are added in a round, and positions of an invocation that have them.
const ROUND_SUMS: u32 = WORKGROUP / ROUNDS;
const ROUND_POSITIONS: u32 = POSITIONS / ROUNDS;
const VALUE_LANES: u32 = 128u;
const VALUE_QUADS: u32 = 128u / TILE;
const WIDTH: u32 = LATENT + ROPE;
const WIDTH_VECTORS: u32 = (WIDTH + 3u) / 4u;
const LATENT_VECTORS: u32 = (LATENT + 3u) / 4u;
const SUM_VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = SUM_VECTORS + 1u;

// [ROUND_SUMS, SLICES] sums of four heads; between two tiles' scores, largest scores: [QUADS, TILE], and [QUADS, TILE / 8] behind them.
var<workgroup> slices: array<vec4<f32>, ROUND_SUMS * SLICES>;
// [TILE, QUADS]: exp(score - max) of four heads.
var<workgroup> weights: array<vec4<f32>, TILE * QUADS>;
var<workgroup> decay: array<vec4<f32>, QUADS>;
var<workgroup> rows: array<u32, TILE>;

// A vector of the head that is `offset` heads behind `first`. Heads past the last repeat it, and write nothing.
fn query(token: u32, first: u32, offset: u32, vector: u32) -> vec4<f32> {
#if WHOLE_GROUPS
  let base = token * Q_STRIDE + (first + offset) * WIDTH;
#else
  let base = token * Q_STRIDE + min(first + offset, HEADS - 1u) * WIDTH;
#endif
#if Q_VECTORS
  return q[base / 4u + vector];
#else
  // What lies past the head's last column meets zeros of the cache, but must not be another head's.
  let columns = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  let at = vec4<u32>(base) + min(columns, vec4<u32>(WIDTH - 1u));
  return select(vec4<f32>(0.0), vec4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]), columns < vec4<u32>(WIDTH));
#endif
}

// Four columns of four heads, by columns.
fn query_quad(token: u32, first: u32, vector: u32) -> mat4x4<f32> {
  let heads = mat4x4<f32>(
    query(token, first, 0u, vector), query(token, first, 1u, vector), query(token, first, 2u, vector), query(token, first, 3u, vector));
  return transpose(heads);
}

fn add_scores(sum: vec4<f32>, queries: mat4x4<f32>, key: vec4<f32>) -> vec4<f32> {
  return sum + queries[0] * key.x + queries[1] * key.y + queries[2] * key.z + queries[3] * key.w;
}

// Four heads' weights of a position times four columns of it, by columns.
fn weighted(weight: vec4<f32>, value: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(weight * value.x, weight * value.y, weight * value.z, weight * value.w);
}

fn scaled(sums: mat4x4<f32>, factor: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(sums[0] * factor, sums[1] * factor, sums[2] * factor, sums[3] * factor);
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
  // Ranges are whole tiles, so nearly equal; while there are ranges enough, what an invocation has of a tile.
  let tiles = (length + TILE - 1u) / TILE;
  let span = select((tiles + SPLITS - 1u) / SPLITS * TILE, PLACES, length <= SPLITS * PLACES);
  let start = group.y * span;
  let end = min(start + span, length);
  if (start >= end) {
    if (local < GROUP_HEADS && first_head + local < HEADS) {
      partial[record + local * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(NEUTRAL, 0.0, 0.0, 0.0);
    }
    return;
  }

  let slice = local % SLICES;
  let place = local / SLICES % PLACES;
  let octet = local / (SLICES * PLACES);
  let octet_head = first_head + octet * 8u;
  // The sum that this invocation adds up and weighs: four heads at one position.
  let round = local / ROUND_SUMS;
  let summed = local % ROUND_SUMS;
  let summed_quad = summed / (ROUND_POSITIONS * PLACES);
  let summed_place = round * (ROUND_POSITIONS * PLACES) + summed % (ROUND_POSITIONS * PLACES);
  let summed_row = summed_quad * TILE;
  let value_quad = local / VALUE_LANES * VALUE_QUADS;
  let value_lane = local % VALUE_LANES;
  let first_value_head = value_quad * 4u;

  var largest = vec4<f32>(NEUTRAL);
  var total = vec4<f32>(0.0);
  var sums: array<mat4x4<f32>, VECTORS * VALUE_QUADS>;

  for (var tile = start; tile < end; tile += TILE) {
    // An invocation's positions lie PLACES apart; those past the end repeat the last one.
    let last = end - 1u;
    let at = vec4<u32>(
      cache_row(sequence, min(tile + place, last)),
      cache_row(sequence, min(tile + PLACES + place, last)),
      cache_row(sequence, min(tile + 2u * PLACES + place, last)),
      cache_row(sequence, min(tile + 3u * PLACES + place, last)));
    // Of the first four heads and the second four, at each position. Assigned, because on lavapipe variables of a loop keep the last
    // iteration's values.
    var a0 = vec4<f32>(0.0);
    var a1 = vec4<f32>(0.0);
    var a2 = vec4<f32>(0.0);
    var a3 = vec4<f32>(0.0);
    var b0 = vec4<f32>(0.0);
    var b1 = vec4<f32>(0.0);
    var b2 = vec4<f32>(0.0);
    var b3 = vec4<f32>(0.0);
    if (end - tile > PLACES) {
      for (var v = slice; v < WIDTH_VECTORS; v += SLICES) {
        let key0 = cached(at.x, v);
        let key1 = cached(at.y, v);
        let key2 = cached(at.z, v);
        let key3 = cached(at.w, v);
        let a = query_quad(token, octet_head, v);
        a0 = add_scores(a0, a, key0);
        a1 = add_scores(a1, a, key1);
        a2 = add_scores(a2, a, key2);
        a3 = add_scores(a3, a, key3);
        let b = query_quad(token, octet_head + 4u, v);
        b0 = add_scores(b0, b, key0);
        b1 = add_scores(b1, b, key1);
        b2 = add_scores(b2, b, key2);
        b3 = add_scores(b3, b, key3);
      }
    } else {
      for (var v = slice; v < WIDTH_VECTORS; v += SLICES) {
        let key = cached(at.x, v);
        a0 = add_scores(a0, query_quad(token, octet_head, v), key);
        b0 = add_scores(b0, query_quad(token, octet_head + 4u, v), key);
      }
    }

    // Index of a sum: (quad * ROUND_POSITIONS + position of the round) * PLACES + place.
    let first_sum = (octet * 2u * ROUND_POSITIONS * PLACES + place) * SLICES + slice;
    let second_sum = first_sum + ROUND_POSITIONS * PLACES * SLICES;
    var score = vec4<f32>(0.0);
#if ROUNDS == 1
    slices[first_sum] = a0;
    slices[first_sum + PLACES * SLICES] = a1;
    slices[first_sum + 2u * PLACES * SLICES] = a2;
    slices[first_sum + 3u * PLACES * SLICES] = a3;
    slices[second_sum] = b0;
    slices[second_sum + PLACES * SLICES] = b1;
    slices[second_sum + 2u * PLACES * SLICES] = b2;
    slices[second_sum + 3u * PLACES * SLICES] = b3;
    workgroupBarrier();
    score = slice_sum(summed);
    workgroupBarrier();
#endif
#if ROUNDS == 2
    slices[first_sum] = a0;
    slices[first_sum + PLACES * SLICES] = a1;
    slices[second_sum] = b0;
    slices[second_sum + PLACES * SLICES] = b1;
    workgroupBarrier();
    if (round == 0u) {
      score = slice_sum(summed);
    }
    workgroupBarrier();
    slices[first_sum] = a2;
    slices[first_sum + PLACES * SLICES] = a3;
    slices[second_sum] = b2;
    slices[second_sum + PLACES * SLICES] = b3;
    workgroupBarrier();
    if (round == 1u) {
      score = slice_sum(summed);
    }
    workgroupBarrier();
#endif
#if ROUNDS == 4
    for (var r = 0u; r < ROUNDS; r++) {
      slices[first_sum] = select(select(a0, a1, r == 1u), select(a2, a3, r == 3u), r >= 2u);
      slices[second_sum] = select(select(b0, b1, r == 1u), select(b2, b3, r == 3u), r >= 2u);
      workgroupBarrier();
      if (round == r) {
        score = slice_sum(summed);
      }
      workgroupBarrier();
    }
#endif

    let valid = tile + summed_place < end;
    score = select(vec4<f32>(NEUTRAL), score * SCALE, valid);
    slices[summed_row + summed_place] = score;
    workgroupBarrier();
    var coarse = slices[summed_row + summed_place / 8u * 8u];
    for (var i = 1u; i < 8u; i++) {
      coarse = max(coarse, slices[summed_row + summed_place / 8u * 8u + i]);
    }
    if (summed_place % 8u == 0u) {
      slices[WORKGROUP + (summed_row + summed_place) / 8u] = coarse;
    }
    workgroupBarrier();
    var tile_largest = largest;
    for (var i = 0u; i < TILE / 8u; i++) {
      tile_largest = max(tile_largest, slices[WORKGROUP + summed_row / 8u + i]);
    }
    let fading = exp(largest - tile_largest);
    largest = tile_largest;
    let weight = select(vec4<f32>(0.0), exp(score - largest), valid);
    total = total * fading + weight;
    weights[summed_place * QUADS + summed_quad] = weight;
    if (summed_place == 0u) {
      decay[summed_quad] = fading;
    }
    if (octet == 0u && slice < POSITIONS) {
      rows[slice * PLACES + place] = at[slice];
    }
    workgroupBarrier();

    let fours = (min(TILE, end - tile) + 3u) / 4u;
    for (var n = 0u; n < VECTORS; n++) {
      let vector = value_lane + n * VALUE_LANES;
      if (vector < LATENT_VECTORS) {
        let s = n * VALUE_QUADS;
        sums[s] = scaled(sums[s], decay[value_quad]);
        sums[s + 1u] = scaled(sums[s + 1u], decay[value_quad + 1u]);
#if TILE == 32
        sums[s + 2u] = scaled(sums[s + 2u], decay[value_quad + 2u]);
        sums[s + 3u] = scaled(sums[s + 3u], decay[value_quad + 3u]);
#endif
        // Weights past the end are zero.
        for (var four = 0u; four < fours; four++) {
          let value0 = cached_latents(rows[four * 4u], vector);
          let value1 = cached_latents(rows[four * 4u + 1u], vector);
          let value2 = cached_latents(rows[four * 4u + 2u], vector);
          let value3 = cached_latents(rows[four * 4u + 3u], vector);
          let w = four * 4u * QUADS + value_quad;
          sums[s] += weighted(weights[w], value0);
          sums[s + 1u] += weighted(weights[w + 1u], value0);
          sums[s] += weighted(weights[w + QUADS], value1);
          sums[s + 1u] += weighted(weights[w + QUADS + 1u], value1);
          sums[s] += weighted(weights[w + 2u * QUADS], value2);
          sums[s + 1u] += weighted(weights[w + 2u * QUADS + 1u], value2);
          sums[s] += weighted(weights[w + 3u * QUADS], value3);
          sums[s + 1u] += weighted(weights[w + 3u * QUADS + 1u], value3);
#if TILE == 32
          sums[s + 2u] += weighted(weights[w + 2u], value0);
          sums[s + 3u] += weighted(weights[w + 3u], value0);
          sums[s + 2u] += weighted(weights[w + QUADS + 2u], value1);
          sums[s + 3u] += weighted(weights[w + QUADS + 3u], value1);
          sums[s + 2u] += weighted(weights[w + 2u * QUADS + 2u], value2);
          sums[s + 3u] += weighted(weights[w + 2u * QUADS + 3u], value2);
          sums[s + 2u] += weighted(weights[w + 3u * QUADS + 2u], value3);
          sums[s + 3u] += weighted(weights[w + 3u * QUADS + 3u], value3);
#endif
        }
      }
    }
    // The next tile writes `slices` only, which nobody reads any more, before its first barrier.
  }

  slices[summed_row + summed_place] = total;
  workgroupBarrier();
  if (summed_place == 0u) {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < TILE; i++) {
      sum += slices[summed_row + i];
    }
    for (var i = 0u; i < 4u; i++) {
      if (first_head + summed_quad * 4u + i < HEADS) {
        partial[record + (summed_quad * 4u + i) * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(largest[i], sum[i], 0.0, 0.0);
      }
    }
  }
  let values = record + first_value_head * RECORD_VECTORS;
  let heads = HEADS - min(HEADS, first_head + first_value_head);
  for (var n = 0u; n < VECTORS; n++) {
    let vector = value_lane + n * VALUE_LANES;
    if (vector < SUM_VECTORS) {
      store(values + vector, vector, heads, 0u, sums[n * VALUE_QUADS]);
      store(values + vector, vector, heads, 4u, sums[n * VALUE_QUADS + 1u]);
#if TILE == 32
      store(values + vector, vector, heads, 8u, sums[n * VALUE_QUADS + 2u]);
      store(values + vector, vector, heads, 12u, sums[n * VALUE_QUADS + 3u]);
#endif
    }
  }
}

// Four heads' sums of four columns; of `heads` heads those from `head` on.
fn store(base: u32, vector: u32, heads: u32, head: u32, sums: mat4x4<f32>) {
  // The last vector of latents may hold some of the key part.
  let kept = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(LATENT);
  let by_head = transpose(sums);
  if (head < heads) {
    partial[base + head * RECORD_VECTORS] = select(vec4<f32>(0.0), by_head[0], kept);
  }
  if (head + 1u < heads) {
    partial[base + (head + 1u) * RECORD_VECTORS] = select(vec4<f32>(0.0), by_head[1], kept);
  }
  if (head + 2u < heads) {
    partial[base + (head + 2u) * RECORD_VECTORS] = select(vec4<f32>(0.0), by_head[2], kept);
  }
  if (head + 3u < heads) {
    partial[base + (head + 3u) * RECORD_VECTORS] = select(vec4<f32>(0.0), by_head[3], kept);
  }
}

// The sum over SLICES of entry `index`. Neighbours begin at different slices, which lie in different banks.
fn slice_sum(index: u32) -> vec4<f32> {
  var sum = slices[index * SLICES + index % SLICES];
  for (var i = 1u; i < SLICES; i++) {
    sum += slices[index * SLICES + (index + i) % SLICES];
  }
  return sum;
}
