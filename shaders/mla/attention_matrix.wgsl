// Attention as mla/attention_tiled.wgsl, which says what the bindings hold, by subgroup matrices (lib/subgroup_matrix.wgsl). The cache is f16, whose values are
// operands as they are.
//
// Dispatch: (ceil(HEADS / GROUP_HEADS), SPLITS, tokens) workgroups of THREADS. Rows of both products are heads, 16 a fragment; a tile has POSITIONS of the keys,
// staged once for both. Subgroups share the columns, 16 at a time: of the queries, which stay in registers, and of the attended latents. So scores are sums of
// SUBGROUPS products, added when they are weighed, and no subgroup reads more of the tile than it multiplies.
//
// Precision: queries and weights are sums of two f16 numbers (lib/halves.wgsl), sums are f32. The weights' reference, in place of the largest score so far, is a
// score that no later one exceeds by more than HEADROOM: sums are seldom scaled, since matrices have to go through workgroup memory for that. Records have the
// reference as their max.
//
// Constants, besides shapes: SUBGROUPS; HEAD_FRAGMENTS = 1 | 2; POSITIONS = 16 | 32, POSITION_FRAGMENTS of 16; AHEAD, a tile's loads are under way while the last
// one is multiplied; KEY_LANES, that load a row together, each KEY_LOADS octets, of KEY_TURNS rows; ROW_LANES = 4 | 8, that weigh a head's scores together, PAIRS
// each; QUERY_LOADS, octets of a query that each of those loads; QUERY_ROUNDS of ROUND_MATRICES, halves and rests of 16 queries, of which there is room for so many
// at once; SCORE_CHUNKS and VALUE_CHUNKS of 16 columns, that a subgroup has of a row and of a latent; RAGGED_KEYS, RAGGED_SCORES, RAGGED_VALUES, the last of those
// may be past the end; Q_VECTORS; SCALE (of scores). LATENT and ROPE are multiples of 16; CACHE_ROW is in octets.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/halves.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
#if Q_VECTORS
@group(0) @binding(2) var<storage, read> q: array<vec4<f32>>;
#else
@group(0) @binding(2) var<storage, read> q: array<f32>;
#endif
@group(0) @binding(3) var<storage, read> cache: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;

const NEUTRAL: f32 = -3e38;
// Weights are at most exp(HEADROOM) = 256; times WEIGHT_UNIT they are in the range of f16, with 32 bits below 1.
const HEADROOM: f32 = 5.545;
const WEIGHT_UNIT: f32 = 128.0;
const THREADS: u32 = 32u * SUBGROUPS;
const GROUP_HEADS: u32 = 16u * HEAD_FRAGMENTS;
const WIDTH: u32 = LATENT + ROPE;
const WIDTH_CHUNKS: u32 = WIDTH / 16u;
const WIDTH_OCTETS: u32 = WIDTH / 8u;
const LATENT_CHUNKS: u32 = LATENT / 16u;
const SUM_VECTORS: u32 = LATENT / 4u;
const RECORD_VECTORS: u32 = SUM_VECTORS + 1u;
const KEY_TURN: u32 = THREADS / KEY_LANES;

// In vectors of 16 bytes, of which rows have an odd number, so that eight rows lie in different banks. First the keys, [POSITIONS, KEY_STRIDE]; before them, the
// queries.
const KEY_STRIDE: u32 = WIDTH_OCTETS + 1u;
// Then each subgroup's sums, [GROUP_HEADS, SUM_STRIDE]. Scores are at the beginning of a row; in their place come weights: halves in the first subgroup's sums,
// the rest in the second one's. Behind those there is room for a fragment.
const SUMS_PLACE: u32 = POSITIONS * KEY_STRIDE;
const SUM_STRIDE: u32 = max(POSITIONS / 4u, POSITIONS / 8u + 4u) + 1u;
const SUBGROUP_SUMS: u32 = GROUP_HEADS * SUM_STRIDE;
const FRAGMENT_PLACE: u32 = POSITIONS / 8u;
const SUMS_END: u32 = SUMS_PLACE + SUBGROUPS * SUBGROUP_SUMS;
#if SUBGROUP_MATRIX == emulated
// Operands stay where they were loaded.
const QUERIES_PLACE: u32 = SUMS_END;
var<workgroup> tile: array<vec4<u32>, SUMS_END + 2u * GROUP_HEADS * KEY_STRIDE>;
var<workgroup> row_values: array<f32, THREADS>;
#else
const QUERIES_PLACE: u32 = 0u;
var<workgroup> tile: array<vec4<u32>, SUMS_END>;
#endif
// What heads' sums are to be multiplied by.
var<workgroup> fading: array<vec4<f32>, GROUP_HEADS / 4u>;

#include "lib/subgroup_matrix.wgsl"

// Over a head's lanes.
#if SUBGROUP_MATRIX == emulated
fn row_max(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  row_values[local] = value;
  workgroupBarrier();
  var most = value;
  for (var i = 0u; i < ROW_LANES; i++) {
    most = max(most, row_values[local / ROW_LANES * ROW_LANES + i]);
  }
  return most;
}

fn row_sum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  row_values[local] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < ROW_LANES; i++) {
    sum += row_values[local / ROW_LANES * ROW_LANES + i];
  }
  return sum;
}
#else
fn row_max(value: f32, local: u32) -> f32 {
  var most = max(value, subgroupShuffleXor(value, 1u));
  most = max(most, subgroupShuffleXor(most, 2u));
#if ROW_LANES == 8
  most = max(most, subgroupShuffleXor(most, 4u));
#endif
  return most;
}

fn row_sum(value: f32, local: u32) -> f32 {
  var sum = value + subgroupShuffleXor(value, 1u);
  sum += subgroupShuffleXor(sum, 2u);
#if ROW_LANES == 8
  sum += subgroupShuffleXor(sum, 4u);
#endif
  return sum;
}
#endif

fn query(token: u32, head: u32, vector: u32) -> vec4<f32> {
  let base = token * Q_STRIDE + head * WIDTH;
#if Q_VECTORS
  return q[base / 4u + vector];
#else
  let at = base + vector * 4u;
  return vec4<f32>(q[at], q[at + 1u], q[at + 2u], q[at + 3u]);
#endif
}

fn packed(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
}

// Two scores of a head, as far as one subgroup's columns go.
fn score_pair(row_place: u32, pair: u32) -> vec2<f32> {
  let sums = bitcast<vec4<f32>>(tile[row_place + pair / 2u]);
  return select(sums.xy, sums.zw, pair % 2u == 1u);
}

// Where rows of the tile from `first` on that an invocation loads lie in the cache; past the end, the last one.
fn key_rows(sequence: u32, first: u32, end: u32) -> array<u32, KEY_TURNS> {
  var rows: array<u32, KEY_TURNS>;
#unroll turn < KEY_TURNS
  rows[turn] = cache_row(sequence, min(first + turn * KEY_TURN, end - 1u));
#endunroll
  return rows;
}

fn load_keys(rows: array<u32, KEY_TURNS>, lane: u32) -> array<vec4<u32>, KEY_TURNS * KEY_LOADS> {
  var keys: array<vec4<u32>, KEY_TURNS * KEY_LOADS>;
#unroll turn < KEY_TURNS
#unroll i < KEY_LOADS
#if RAGGED_KEYS
  keys[turn * KEY_LOADS + i] = cache[rows[turn] + min(lane + i * KEY_LANES, WIDTH_OCTETS - 1u)];
#else
  keys[turn * KEY_LOADS + i] = cache[rows[turn] + lane + i * KEY_LANES];
#endif
#endunroll
#endunroll
  return keys;
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.z;
  if (token >= token_count()) {
    return;
  }
  let first_head = group.x * GROUP_HEADS;
  let record = ((token * SPLITS + group.y) * HEADS + first_head) * RECORD_VECTORS;
  let length = token_position(token) + 1u;
  let sequence = token_sequence(token);
  // Ranges are whole tiles, so nearly equal.
  let tiles = (length + POSITIONS - 1u) / POSITIONS;
  let span = (tiles + SPLITS - 1u) / SPLITS * POSITIONS;
  let start = group.y * span;
  let end = min(start + span, length);
  if (start >= end) {
    if (local < GROUP_HEADS && first_head + local < HEADS) {
      partial[record + local * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(NEUTRAL, 0.0, 0.0, 0.0);
    }
    return;
  }

  // Bounded where compilers see it: loads of fragments are checked against the array's length.
  let subgroup = min(subgroup_number(local), SUBGROUPS - 1u);
  let lane = local % 32u;
  // The head whose scores this invocation weighs, if any, with its neighbours.
  let weighs = local < GROUP_HEADS * ROW_LANES;
  let row = min(local / ROW_LANES, GROUP_HEADS - 1u);
  let row_lane = local % ROW_LANES;
  let key_lane = local % KEY_LANES;
  let key_row = local / KEY_LANES;
  var rows = key_rows(sequence, start + key_row, end);
#if AHEAD
  var keys = load_keys(rows, key_lane);
  rows = key_rows(sequence, start + POSITIONS + key_row, end);
#endif

  // Queries: each ROW_LANES-th octet of a head. Heads past the last repeat it, and are not written.
  let head = min(first_head + row, HEADS - 1u);
  var own: array<vec4<f32>, 2u * QUERY_LOADS>;
  var most = 0.0;
#unroll i < QUERY_LOADS
  let octet = min(row_lane + i * ROW_LANES, WIDTH_OCTETS - 1u);
  let a = query(token, head, 2u * octet);
  let b = query(token, head, 2u * octet + 1u);
  let larger = max(abs(a), abs(b));
  most = max(most, max(max(larger.x, larger.y), max(larger.z, larger.w)));
  own[2u * i] = a;
  own[2u * i + 1u] = b;
#endunroll
  let exponent = halves_exponent(row_max(most, local));
  let power = power_of_two(exponent);
  let unit = power_of_two(254u - exponent) * SCALE;
  // [HEAD_FRAGMENTS, halves and the rest, SCORE_CHUNKS]
  var queries: array<Left, 2u * HEAD_FRAGMENTS * SCORE_CHUNKS>;
#unroll round < QUERY_ROUNDS
  workgroupBarrier();
#unroll m < ROUND_MATRICES
  const matrix = round * ROUND_MATRICES + m;
  if (weighs && row / 16u == matrix / 2u) {
#unroll i < QUERY_LOADS
    let octet = row_lane + i * ROW_LANES;
    if (octet < WIDTH_OCTETS) {
      let a = own[2u * i] * power;
      let b = own[2u * i + 1u] * power;
      let near_a = rounded(a);
      let near_b = rounded(b);
      let halves = select(packed(a - near_a, b - near_b), packed(near_a, near_b), matrix % 2u == 0u);
      tile[QUERIES_PLACE + (16u * m + row % 16u) * KEY_STRIDE + octet] = halves;
    }
#endunroll
  }
#endunroll
  workgroupBarrier();
#unroll m < ROUND_MATRICES
#unroll i < SCORE_CHUNKS
  let chunk = min(subgroup + i * SUBGROUPS, WIDTH_CHUNKS - 1u);
  queries[(round * ROUND_MATRICES + m) * SCORE_CHUNKS + i] = load_left(QUERIES_PLACE + 16u * m * KEY_STRIDE + 2u * chunk, KEY_STRIDE);
#endunroll
#endunroll
#endunroll

  let sums_place = SUMS_PLACE + subgroup * SUBGROUP_SUMS;
  let row_place = SUMS_PLACE + row * SUM_STRIDE;
  var reference = NEUTRAL;
  // Of this invocation's positions.
  var total = 0.0;
  // [HEAD_FRAGMENTS, VALUE_CHUNKS]
  var attended: array<Sum, HEAD_FRAGMENTS * VALUE_CHUNKS>;
  for (var first = start; first < end; first += POSITIONS) {
    // Queries, or the last tile's keys and weights, are done with.
    workgroupBarrier();
#if !AHEAD
    let keys = load_keys(rows, key_lane);
#endif
#unroll turn < KEY_TURNS
#unroll i < KEY_LOADS
    let octet = key_lane + i * KEY_LANES;
#if RAGGED_KEYS
    if (octet < WIDTH_OCTETS) {
      tile[(key_row + turn * KEY_TURN) * KEY_STRIDE + octet] = keys[turn * KEY_LOADS + i];
    }
#else
    tile[(key_row + turn * KEY_TURN) * KEY_STRIDE + octet] = keys[turn * KEY_LOADS + i];
#endif
#endunroll
#endunroll
#if AHEAD
    keys = load_keys(rows, key_lane);
    rows = key_rows(sequence, first + 2u * POSITIONS + key_row, end);
#else
    rows = key_rows(sequence, first + POSITIONS + key_row, end);
#endif
    workgroupBarrier();

    // [HEAD_FRAGMENTS, POSITION_FRAGMENTS]. Assigned, because on lavapipe variables of a loop keep the last iteration's values.
    var scores: array<Sum, HEAD_FRAGMENTS * POSITION_FRAGMENTS>;
#unroll i < HEAD_FRAGMENTS * POSITION_FRAGMENTS
    scores[i] = Sum();
#endunroll
#unroll i < SCORE_CHUNKS
    let chunk = subgroup + i * SUBGROUPS;
#if RAGGED_SCORES
    if (chunk < WIDTH_CHUNKS) {
#endif
#unroll n < POSITION_FRAGMENTS
      let key = load_right(16u * n * KEY_STRIDE + 2u * chunk, KEY_STRIDE);
#unroll f < HEAD_FRAGMENTS
      const at = f * POSITION_FRAGMENTS + n;
      // The rest first, its products being the smaller ones.
      scores[at] = multiply_add(queries[(2u * f + 1u) * SCORE_CHUNKS + i], key, scores[at]);
      scores[at] = multiply_add(queries[2u * f * SCORE_CHUNKS + i], key, scores[at]);
#endunroll
#endunroll
#if RAGGED_SCORES
    }
#endif
#endunroll
#unroll f < HEAD_FRAGMENTS
#unroll n < POSITION_FRAGMENTS
    store_sum(sums_place + 16u * f * SUM_STRIDE + 4u * n, scores[f * POSITION_FRAGMENTS + n], lane);
#endunroll
#endunroll
    workgroupBarrier();

    var pairs: array<vec2<f32>, PAIRS>;
    var largest = NEUTRAL;
#unroll i < PAIRS
    let pair = row_lane * PAIRS + i;
    var sum = vec2<f32>(0.0);
    if (weighs) {
#unroll s < SUBGROUPS
      sum += score_pair(row_place + s * SUBGROUP_SUMS, pair);
#endunroll
    }
    pairs[i] = select(vec2<f32>(NEUTRAL), sum * unit, vec2<u32>(first + 2u * pair) + vec2<u32>(0u, 1u) < vec2<u32>(end));
    largest = max(largest, max(pairs[i].x, pairs[i].y));
#endunroll
    // After this, all of the head's lanes have read its scores.
    largest = row_max(largest, local);
    var factor = 1.0;
    if (largest > reference + HEADROOM) {
      // Before the first tile there is nothing to scale.
      factor = select(exp(reference - largest), 1.0, first == start);
      reference = largest;
    }
    total *= factor;
    if (weighs) {
#unroll i < PAIRS
      let weights = exp(pairs[i] - reference);
      total += weights.x + weights.y;
      let all = vec4<f32>(weights, 0.0, 0.0) * WEIGHT_UNIT;
      let near = rounded(all);
      let word = row_lane * PAIRS + i;
      tile[row_place + word / 4u][word % 4u] = pack2x16float(near.xy);
      tile[row_place + SUBGROUP_SUMS + word / 4u][word % 4u] = pack2x16float((all - near).xy);
#endunroll
      if (row_lane == 0u) {
        fading[row / 4u][row % 4u] = factor;
      }
    }
    let factors = workgroupUniformLoad(&fading);
    var kept = true;
#unroll i < 4 * HEAD_FRAGMENTS
    kept = kept && all(factors[i] == vec4<f32>(1.0));
#endunroll
    if (!kept) {
#unroll f < HEAD_FRAGMENTS
#unroll c < VALUE_CHUNKS
      const at = f * VALUE_CHUNKS + c;
      workgroupBarrier();
      store_sum(sums_place + FRAGMENT_PLACE, attended[at], lane);
      workgroupBarrier();
      for (var i = lane; i < 64u; i += 32u) {
        let place = sums_place + FRAGMENT_PLACE + i / 4u * SUM_STRIDE + i % 4u;
        let scaled = bitcast<vec4<f32>>(tile[place]) * fading[4u * f + i / 16u][i / 4u % 4u];
        tile[place] = bitcast<vec4<u32>>(scaled);
      }
      workgroupBarrier();
      attended[at] = load_sum(sums_place + FRAGMENT_PLACE, lane);
#endunroll
#endunroll
    }

#unroll k < POSITION_FRAGMENTS
    var weights_of: array<Left, 2u * HEAD_FRAGMENTS>;
#unroll f < HEAD_FRAGMENTS
    const place = SUMS_PLACE + 16u * f * SUM_STRIDE + 2u * k;
    weights_of[2u * f] = load_left(place, SUM_STRIDE);
    weights_of[2u * f + 1u] = load_left(place + SUBGROUP_SUMS, SUM_STRIDE);
#endunroll
#unroll c < VALUE_CHUNKS
    let chunk = subgroup + c * SUBGROUPS;
#if RAGGED_VALUES
    if (chunk < LATENT_CHUNKS) {
#endif
      let values = load_right_rows(16u * k * KEY_STRIDE + 2u * chunk, KEY_STRIDE);
#unroll f < HEAD_FRAGMENTS
      const at = f * VALUE_CHUNKS + c;
      attended[at] = multiply_add(weights_of[2u * f + 1u], values, attended[at]);
      attended[at] = multiply_add(weights_of[2u * f], values, attended[at]);
#endunroll
#if RAGGED_VALUES
    }
#endif
#endunroll
#endunroll
  }

  total = row_sum(total, local);
  if (weighs && row_lane == 0u && first_head + row < HEADS) {
    partial[record + row * RECORD_VECTORS + SUM_VECTORS] = vec4<f32>(reference, total, 0.0, 0.0);
  }
#unroll f < HEAD_FRAGMENTS
#unroll c < VALUE_CHUNKS
  workgroupBarrier();
  store_sum(sums_place, attended[f * VALUE_CHUNKS + c], lane);
  workgroupBarrier();
  let chunk = subgroup + c * SUBGROUPS;
  for (var i = lane; i < 64u; i += 32u) {
    let of_head = 16u * f + i / 4u;
    if (first_head + of_head < HEADS && chunk < LATENT_CHUNKS) {
      let sums = bitcast<vec4<f32>>(tile[sums_place + i / 4u * SUM_STRIDE + i % 4u]);
      partial[record + of_head * RECORD_VECTORS + 4u * chunk + i % 4u] = sums / WEIGHT_UNIT;
    }
  }
#endunroll
#endunroll
}
