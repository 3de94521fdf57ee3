// All that a head does between the projections of its layer, for a few tokens that follow few others: the cache's rows of the step, queries into the latent space,
// attention, and its values. As mla/kv_write, q_absorb, attention and output have them, in one dispatch: each of those waits for memory once or twice, and for the one before.
//
// q       [tokens, Q_STRIDE] f32, per head [NOPE | ROPE]
// x       [tokens, X_STRIDE] f32, from column X_OFFSET on: the step's latents and key parts, of which rows are made as in lib/kv_values.wgsl
// weights kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// cache   [blocks, BLOCK_SIZE, 4 CACHE_ROW] in CACHE_FORMAT; the step's rows are written, those before are read
// out     [tokens, OUT_STRIDE] f32, per head VALUE; with HALVES rows of halves, as lib/put_value.wgsl has them
//
// Dispatch: (HEADS, ceil(tokens / TOKENS)) workgroups of WORKGROUP, which decode a head's weights once for TOKENS tokens. Every one computes the rows of the step that its tokens
// attend to by itself: no other workgroup's writes are waited for. Tokens attend to at most MOST_POSITIONS positions, of which at most OWN_ROWS, the last, are the step's; rows of a
// sequence follow each other in the step. Scores are f32, and so are sums. Rows of the step are rounded as the cache has them before they are used.
//
// What it takes is the time that things wait for each other, so these are few: a token's positions are shared out to MEMBERS subgroups, each of which reads a row once, scores it and
// adds it up, weighted by what it knows of the largest score, without waiting for another; their sums are brought to one scale at the end. Loads that wait for nothing come first.
//
// Constants, besides shapes: WORKGROUP (invocations, a whole number of subgroups), LANES (a subgroup's size, at least 4), TOKENS (1, 2 or 4; a token has at least OWN_ROWS subgroups),
// ROW_LOADS and LATENT_LOADS (vectors of a row and of its latent that a lane has), ROWS_AHEAD (rows of the cache that a subgroup loads at once), ROW_SETS
// (ceil(MOST_POSITIONS / (LANES MEMBERS))), QUERY_VECTORS (LANES ROW_LOADS), WORDS (bytes of a weight), VECTOR_LANES (a power of two, at least LATENT / 4), ABSORB_LOADS (rows of
// weights that an invocation loads at once for the absorbed query), VALUE_LANES (a power of two, at most LANES, at most that from CHUNKS up), VALUE_CHUNKS
// (ceil(CHUNKS / VALUE_LANES)), VALUE_LOADS (VALUE_CHUNKS WORDS), VALUE_ROWS (rows that a team of VALUE_LANES loads at once for the values), ABSORB_BLOCKS and VALUE_BLOCKS (blocks of
// scales that a head's NOPE and VALUE rows lie in, at most), ROUNDS (in which MEMBERS subgroups leave their sums, as there is room), ROOM (TOKENS times SLICES VECTOR_LANES or
// MEMBERS / ROUNDS LATENT / 4, the larger), TOUCH_ABSORB and TOUCH_VALUES (words that an invocation touches beforehand of the weights of either kind, or 0); with HALVES SCALES,
// all of them. LATENT is a multiple of 16, ROPE of 4.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/cached_vector.wgsl"
#include "lib/stored_vector.wgsl"
#include "lib/rotate.wgsl"
#include "lib/put_value.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> gamma: array<f32>;
@group(0) @binding(6) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read_write> cache: array<Cached>;
#if HALVES
@group(0) @binding(8) var<storage, read_write> out: array<f16>;
#else
@group(0) @binding(8) var<storage, read_write> out: array<f32>;
#endif
#if WEIGHT_FORMAT == fp8
@group(0) @binding(9) var<storage, read> scales: array<f32>;
#endif

const SUBGROUP_COUNT: u32 = WORKGROUP / LANES;
const LATENT_VECTORS: u32 = LATENT / 4u;
const WIDTH_VECTORS: u32 = (LATENT + ROPE) / 4u;
// Of the absorbed query's rows.
const SLICES: u32 = WORKGROUP / VECTOR_LANES;
// Subgroups that have a token, and those of them that leave their sums at once.
const MEMBERS: u32 = SUBGROUP_COUNT / TOKENS;
const SEATS: u32 = MEMBERS / ROUNDS;
const VALUE_TEAMS: u32 = WORKGROUP / VALUE_LANES;
const LEAST: f32 = -3e38;

// A head's queries before absorption, [NOPE, TOKENS].
var<workgroup> heads_q: array<f32, NOPE * TOKENS>;
// The slices' sums of absorbed queries, [TOKENS, SLICES, VECTOR_LANES]; then the subgroups' attended latents, [TOKENS, SEATS, LATENT_VECTORS].
var<workgroup> shared_sums: array<vec4<f32>, ROOM>;
// The absorbed queries with their rope parts, and zeros; then the attended latents.
var<workgroup> query: array<vec4<f32>, TOKENS * QUERY_VECTORS>;
var<workgroup> subgroup_most: array<f32, SUBGROUP_COUNT>;
var<workgroup> subgroup_weights: array<f32, SUBGROUP_COUNT>;

// With words of four columns the word alone is loaded: neighbours have the others of its vector.
fn stored(row: u32, vector: u32) -> Stored {
#if WORDS == 1
  return weights[row * CHUNKS + vector / 4u][vector % 4u];
#endif
#if WORDS == 2
  let words = weights[(row * CHUNKS + vector / 4u) * 2u + vector % 4u / 2u];
  return select(words.xy, words.zw, vector % 2u == 1u);
#endif
#if WORDS == 4
  return weights[row * CHUNKS * 4u + vector];
#endif
}

// Sums over teams of VALUE_LANES lanes: of four numbers the one that is the lane's by its number in the team, modulo four.
fn team_sums(values: vec4<f32>, lane: u32) -> f32 {
  let second = lane % 2u == 1u;
  let pair = select(values.xz, values.yw, second) + subgroupShuffleXor(select(values.yw, values.xz, second), 1u);
  let high = lane / 2u % 2u == 1u;
  var sum = select(pair.x, pair.y, high) + subgroupShuffleXor(select(pair.y, pair.x, high), 2u);
  for (var step = 4u; step < VALUE_LANES; step *= 2u) {
    sum += subgroupShuffleXor(sum, step);
  }
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let first_token = group.y * TOKENS;
  let lane = local % LANES;
  let subgroup = local / LANES;

  // Whatever does not depend on something read is asked for first.
  let head_row = head * (NOPE + VALUE);
  let absorb_vector = min(local % VECTOR_LANES, LATENT_VECTORS - 1u);
  let slice = local / VECTOR_LANES;
  // A word of each 32 bytes of weights that are loaded later, so that they are near by then.
#if TOUCH_ABSORB
  var touched_absorb: array<u32, TOUCH_ABSORB>;
#unroll i < TOUCH_ABSORB
  touched_absorb[i] = weights[min(head_row * CHUNKS * WORDS + (local + i * WORKGROUP) * 2u, (head_row + NOPE) * CHUNKS * WORDS - 1u)].x;
#endunroll
#endif
  var words: array<Stored, ABSORB_LOADS>;
#unroll i < ABSORB_LOADS
  words[i] = stored(head_row + min(slice + i * SLICES, NOPE - 1u), absorb_vector);
#endunroll
#if TOUCH_VALUES
  var touched_values: array<u32, TOUCH_VALUES>;
#unroll i < TOUCH_VALUES
  touched_values[i] = weights[min((head_row + NOPE) * CHUNKS * WORDS + (local + i * WORKGROUP) * 2u, (head_row + NOPE + VALUE) * CHUNKS * WORDS - 1u)].x;
#endunroll
#endif
#if WEIGHT_FORMAT == fp8
  var absorb_scales: array<f32, ABSORB_BLOCKS>;
#unroll b < ABSORB_BLOCKS
  absorb_scales[b] = WEIGHT_FACTOR * scales[min(head_row / 128u + b, (HEADS * (NOPE + VALUE) - 1u) / 128u) * SCALE_COLUMNS + absorb_vector / 32u];
#endunroll
#endif
  var gammas: array<vec4<f32>, LATENT_LOADS>;
#unroll i < LATENT_LOADS
  let gamma_at = min(lane + i * LANES, LATENT_VECTORS - 1u) * 4u;
  gammas[i] = vec4<f32>(gamma[gamma_at], gamma[gamma_at + 1u], gamma[gamma_at + 2u], gamma[gamma_at + 3u]);
#endunroll

  var power = 1.0;
#if HALVES
  var most_gamma = 0.0;
#unroll i < LATENT_LOADS
  most_gamma = max(most_gamma, max(max(abs(gammas[i].x), abs(gammas[i].y)), max(abs(gammas[i].z), abs(gammas[i].w))));
#endunroll
  var most_scale = 0.0;
  for (var i = lane; i < SCALES; i += LANES) {
    most_scale = max(most_scale, abs(scales[i]));
  }
  let exponent = out_exponent(subgroupMax(most_scale), subgroupMax(most_gamma));
  power = bitcast<f32>(exponent << 23u);
#endif
  let count = token_count();
  var cached_counts: array<u32, TOKENS>;
  var sequences: array<u32, TOKENS>;
  var positions: array<u32, TOKENS>;
  var owns: array<u32, TOKENS>;
  var most_cached = 0u;
#unroll t < TOKENS
  let its = min(first_token + t, MAX_TOKENS - 1u);
  sequences[t] = token_sequence(its);
  positions[t] = token_position(its);
  owns[t] = 1u;
#unroll i < OWN_ROWS
  let same = i <= its && token_sequence(its - min(i, its)) == sequences[t];
  if (owns[t] == i && same) {
    owns[t] = i + 1u;
  }
#endunroll
  cached_counts[t] = min(positions[t] + 1u - owns[t], MOST_POSITIONS);
  most_cached = max(most_cached, select(0u, cached_counts[t], first_token + t < count));
#endunroll
  if (first_token >= count) {
    return;
  }
  // Zero, which no compiler knows. Loops whose ends it is part of stay loops: code that runs once waits for every line of it, since a layer's other dispatches have displaced it.
  let nothing = count >> 31u;
  for (var i = local; i < NOPE * TOKENS; i += WORKGROUP) {
    heads_q[i] = q[min(first_token + i % TOKENS, count - 1u) * Q_STRIDE + head * (NOPE + ROPE) + i / TOKENS];
  }

#if HALVES
  if (head == 0u && local < TOKENS && first_token + local < count) {
    put_power(first_token + local, exponent);
  }
#endif

  // From here on a subgroup has its token. The last subgroups of a token have a row of the step each; all of them go the same way, for nothing.
  let place = subgroup / MEMBERS;
  let member = subgroup % MEMBERS;
  let token = min(first_token + place, count - 1u);
  var sequence = sequences[0];
  var position = positions[0];
  var own = owns[0];
  var cached_count = cached_counts[0];
#unroll t < TOKENS
  if (t > 0u && place == t) {
    sequence = sequences[t];
    position = positions[t];
    own = owns[t];
    cached_count = cached_counts[t];
  }
#endunroll
  let own_index = MEMBERS - 1u - member;
  let own_token = token - min(min(own_index, OWN_ROWS - 1u), token);
  let is_token = first_token + place < count;
  // Where rows start that the subgroup has: position number n of it is known to lane n.
  let last_cached = max(cached_count, 1u) - 1u;
  var rows: array<u32, ROW_SETS>;
#unroll i < ROW_SETS
  rows[i] = cache_row(sequence, min(member + (lane + i * LANES) * MEMBERS, last_cached));
#endunroll
  let own_place = cache_row(sequence, position);
  var own_x: array<vec4<f32>, ROW_LOADS>;
#unroll i < ROW_LOADS
  let x_at = own_token * X_STRIDE + X_OFFSET + min(lane + i * LANES, WIDTH_VECTORS - 1u) * 4u;
  own_x[i] = vec4<f32>(x[x_at], x[x_at + 1u], x[x_at + 2u], x[x_at + 3u]);
#endunroll

  var squares = 0.0;
#unroll i < LATENT_LOADS
  squares += select(0.0, dot(own_x[i], own_x[i]), i * LANES + LANES <= LATENT_VECTORS || lane + i * LANES < LATENT_VECTORS);
#endunroll
  let norm = inverseSqrt(subgroupAdd(squares) / f32(LATENT) + EPSILON);
  var own_row: array<Cached, ROW_LOADS>;
#unroll i < ROW_LOADS
  let own_vector = lane + i * LANES;
  var own_values = vec4<f32>(0.0);
  if (i * LANES + LANES <= LATENT_VECTORS || own_vector < LATENT_VECTORS) {
    own_values = (own_x[i] * norm) * gammas[min(i, LATENT_LOADS - 1u)];
  } else if (own_vector < WIDTH_VECTORS) {
    own_values = rotated(own_x[i], position - min(min(own_index, OWN_ROWS - 1u), position), own_vector - LATENT_VECTORS);
  }
  own_row[i] = packed(own_values, nothing);
  if (own_index == 0u && head == 0u && is_token && own_vector < CACHE_ROW) {
    cache[own_place + own_vector] = own_row[i];
  }
#endunroll
  for (var i = local; i < TOKENS * (ROPE / 4u); i += WORKGROUP) {
    let t = i / (ROPE / 4u);
    let vector = i % (ROPE / 4u);
    let its = min(first_token + t, count - 1u);
    let part = its * Q_STRIDE + head * (NOPE + ROPE) + NOPE + vector * 4u;
    query[t * QUERY_VECTORS + LATENT_VECTORS + vector] = rotated(vec4<f32>(q[part], q[part + 1u], q[part + 2u], q[part + 3u]), token_position(its), vector);
  }
  workgroupBarrier();

  var absorbed: array<vec4<f32>, TOKENS>;
  for (var first = 0u; first < NOPE + nothing; first += ABSORB_LOADS * SLICES) {
    if (first > 0u) {
#unroll i < ABSORB_LOADS
      words[i] = stored(head_row + min(first + slice + i * SLICES, NOPE - 1u), absorb_vector);
#endunroll
    }
#unroll i < ABSORB_LOADS
    let d = first + slice + i * SLICES;
    if (NOPE % (ABSORB_LOADS * SLICES) == 0u || d < NOPE) {
      var values = decoded(words[i]);
#if WEIGHT_FORMAT == fp8
      // One scale for all of them multiplies their sums.
      if (ABSORB_BLOCKS > 1u) {
        var factor = absorb_scales[0];
#unroll b < ABSORB_BLOCKS
        factor = select(factor, absorb_scales[b], (head_row + d) / 128u == head_row / 128u + b);
#endunroll
        values *= factor;
      }
#endif
#unroll t < TOKENS
      absorbed[t] += heads_q[d * TOKENS + t] * values;
#endunroll
    }
#endunroll
  }
#if WEIGHT_FORMAT == fp8
  if (ABSORB_BLOCKS == 1u) {
#unroll t < TOKENS
    absorbed[t] *= absorb_scales[0];
#endunroll
  }
#endif
#unroll t < TOKENS
  shared_sums[(t * SLICES + slice) * VECTOR_LANES + local % VECTOR_LANES] = absorbed[t];
#endunroll
  workgroupBarrier();
  for (var i = local; i < TOKENS * LATENT_VECTORS + nothing; i += WORKGROUP) {
    let vector = i % LATENT_VECTORS;
    let t = i / LATENT_VECTORS;
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < SLICES; s++) {
      sum += shared_sums[(t * SLICES + s) * VECTOR_LANES + vector];
    }
    query[t * QUERY_VECTORS + vector] = sum;
  }
  workgroupBarrier();
  var of_query: array<vec4<f32>, ROW_LOADS>;
#unroll i < ROW_LOADS
  of_query[i] = query[place * QUERY_VECTORS + lane + i * LANES];
#endunroll

  // A subgroup attends to its rows by itself: to the step's first, where it has one, then to those of the cache, some at a time.
  var touched = 0u;
  var dots = 0.0;
  var attended: array<vec4<f32>, LATENT_LOADS>;
#unroll i < ROW_LOADS
  let own_values = unpacked(own_row[i]);
  dots += dot(of_query[i], own_values);
  if (i < LATENT_LOADS) {
    attended[min(i, LATENT_LOADS - 1u)] = select(vec4<f32>(0.0), own_values, own_index < own);
  }
#endunroll
  dots = subgroupAdd(dots);
  var most = select(LEAST, dots * SCALE, own_index < own);
  var weight_sum = select(0.0, 1.0, own_index < own);
  for (var start = 0u; start < most_cached; start += MEMBERS * ROWS_AHEAD) {
    var keys: array<Cached, ROWS_AHEAD * ROW_LOADS>;
    let load_from = start / MEMBERS;
#unroll a < ROWS_AHEAD
    var row_start = subgroupShuffle(rows[0], (load_from + a) % LANES);
#unroll s < ROW_SETS
    if (s > 0u) {
      row_start = select(row_start, subgroupShuffle(rows[s], (load_from + a) % LANES), (load_from + a) / LANES == s);
    }
#endunroll
#unroll i < ROW_LOADS
    keys[a * ROW_LOADS + i] = cache[row_start + min(lane + i * LANES, WIDTH_VECTORS - 1u)];
#endunroll
#endunroll
    var row_weights: array<f32, ROWS_AHEAD>;
    var top = most;
#unroll a < ROWS_AHEAD
    var row_dots = 0.0;
#unroll i < ROW_LOADS
    row_dots += dot(of_query[i], unpacked(keys[a * ROW_LOADS + i]));
#endunroll
    row_weights[a] = select(LEAST, subgroupAdd(row_dots) * SCALE, start + a * MEMBERS + member < cached_count);
    top = max(top, row_weights[a]);
#endunroll
    let shrink = exp(most - top);
    most = top;
    weight_sum *= shrink;
#unroll i < LATENT_LOADS
    attended[i] *= shrink;
#endunroll
#unroll a < ROWS_AHEAD
    // A token without cached rows has loaded what another may be writing.
    if (start + a * MEMBERS + member < cached_count) {
      let row_weight = exp(row_weights[a] - top);
      weight_sum += row_weight;
#unroll i < LATENT_LOADS
      attended[i] += row_weight * unpacked(keys[a * ROW_LOADS + i]);
#endunroll
    }
#endunroll
  }

  // Rows of weights that the values are made of are on their way while the subgroups' sums become one.
  let value_lane = local % VALUE_LANES;
  let team = local / VALUE_LANES;
#if TOUCH_ABSORB
#unroll i < TOUCH_ABSORB
  touched |= touched_absorb[i];
#endunroll
#endif
#if TOUCH_VALUES
#unroll i < TOUCH_VALUES
  touched |= touched_values[i];
#endunroll
#endif
  let value_row = head_row + NOPE + (touched & nothing);
  var value_words: array<vec4<u32>, VALUE_ROWS * VALUE_LOADS>;
#unroll r < VALUE_ROWS
#unroll i < VALUE_LOADS
  value_words[r * VALUE_LOADS + i] = weights[((value_row + min(team + r * VALUE_TEAMS, VALUE - 1u)) * CHUNKS + min(value_lane + i / WORDS * VALUE_LANES, CHUNKS - 1u)) * WORDS + i % WORDS];
#endunroll
#endunroll
#if WEIGHT_FORMAT == fp8
  var value_scales: array<f32, VALUE_BLOCKS * VALUE_CHUNKS>;
#unroll b < VALUE_BLOCKS
#unroll i < VALUE_CHUNKS
  value_scales[b * VALUE_CHUNKS + i] = WEIGHT_FACTOR * scales[min(value_row / 128u + b, (HEADS * (NOPE + VALUE) - 1u) / 128u) * SCALE_COLUMNS + min(value_lane + i * VALUE_LANES, CHUNKS - 1u) / 8u];
#endunroll
#endunroll
#endif
  if (lane == 0u) {
    subgroup_most[subgroup] = most;
    subgroup_weights[subgroup] = weight_sum;
  }
#if ROUNDS == 1
  // The slices' sums were read before the last barrier.
#unroll i < LATENT_LOADS
  if (lane + i * LANES < LATENT_VECTORS) {
    shared_sums[subgroup * LATENT_VECTORS + lane + i * LANES] = attended[i];
  }
#endunroll
  workgroupBarrier();
  for (var i = local; i < TOKENS * LATENT_VECTORS + nothing; i += WORKGROUP) {
    let vector = i % LATENT_VECTORS;
    let t = i / LATENT_VECTORS;
    var top = subgroup_most[t * MEMBERS];
    for (var m = 1u; m < MEMBERS + nothing; m++) {
      top = max(top, subgroup_most[t * MEMBERS + m]);
    }
    var sum = vec4<f32>(0.0);
    var weight = 0.0;
    for (var m = 0u; m < MEMBERS + nothing; m++) {
      let factor = exp(subgroup_most[t * MEMBERS + m] - top);
      weight += factor * subgroup_weights[t * MEMBERS + m];
      sum += factor * shared_sums[(t * MEMBERS + m) * LATENT_VECTORS + vector];
    }
    query[t * QUERY_VECTORS + vector] = sum / weight;
  }
#else
  workgroupBarrier();
  var top = subgroup_most[place * MEMBERS];
  for (var m = 1u; m < MEMBERS + nothing; m++) {
    top = max(top, subgroup_most[place * MEMBERS + m]);
  }
  var weight = 0.0;
  for (var m = 0u; m < MEMBERS + nothing; m++) {
    weight += exp(subgroup_most[place * MEMBERS + m] - top) * subgroup_weights[place * MEMBERS + m];
  }
  let share = exp(most - top) / weight;
  // There is room for some at a time.
#unroll round < ROUNDS
  if (member / SEATS == round) {
#unroll i < LATENT_LOADS
    if (lane + i * LANES < LATENT_VECTORS) {
      let at = (place * SEATS + member % SEATS) * LATENT_VECTORS + lane + i * LANES;
      var sum = attended[i] * share;
      if (round > 0u) {
        sum += shared_sums[at];
      }
      shared_sums[at] = sum;
    }
#endunroll
  }
  workgroupBarrier();
#endunroll
  for (var i = local; i < TOKENS * LATENT_VECTORS + nothing; i += WORKGROUP) {
    let vector = i % LATENT_VECTORS;
    let t = i / LATENT_VECTORS;
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < SEATS; s++) {
      sum += shared_sums[(t * SEATS + s) * LATENT_VECTORS + vector];
    }
    query[t * QUERY_VECTORS + vector] = sum;
  }
#endif
  workgroupBarrier();

  var latent: array<vec4<f32>, 4 * VALUE_CHUNKS * TOKENS>;
#unroll t < TOKENS
#unroll i < VALUE_CHUNKS
#unroll j < 4
  latent[(t * VALUE_CHUNKS + i) * 4u + j] = query[t * QUERY_VECTORS + min(value_lane + i * VALUE_LANES, CHUNKS - 1u) * 4u + j];
#endunroll
#endunroll
#endunroll
  for (var first = 0u; first < VALUE + nothing; first += VALUE_TEAMS * VALUE_ROWS) {
    if (first > 0u) {
#unroll r < VALUE_ROWS
#unroll i < VALUE_LOADS
      value_words[r * VALUE_LOADS + i] = weights[((value_row + min(first + team + r * VALUE_TEAMS, VALUE - 1u)) * CHUNKS + min(value_lane + i / WORDS * VALUE_LANES, CHUNKS - 1u)) * WORDS + i % WORDS];
#endunroll
#endunroll
    }
    // Four sums at a time, of as many rows as it takes.
    var sums = vec4<f32>(0.0);
#unroll r < VALUE_ROWS
    let value = first + team + r * VALUE_TEAMS;
#unroll i < VALUE_CHUNKS
    let value_chunk = value_lane + i * VALUE_LANES;
    var chunk_words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
    chunk_words[w] = value_words[r * VALUE_LOADS + i * WORDS + w];
#endunroll
    let v = decode_chunk(chunk_words);
    var factor = 1.0;
#if WEIGHT_FORMAT == fp8
    factor = value_scales[i];
#unroll b < VALUE_BLOCKS
    if (b > 0u) {
      factor = select(factor, value_scales[b * VALUE_CHUNKS + i], (value_row + value) / 128u == value_row / 128u + b);
    }
#endunroll
#endif
    factor = select(0.0, factor, value_chunk < CHUNKS);
#unroll t < TOKENS
    let l = (t * VALUE_CHUNKS + i) * 4u;
    sums[(r * TOKENS + t) % 4u] += factor * (dot(v[0], latent[l]) + dot(v[1], latent[l + 1u]) + dot(v[2], latent[l + 2u]) + dot(v[3], latent[l + 3u]));
#endunroll
#endunroll
    if ((r + 1u) * TOKENS % 4u == 0u || r + 1u == VALUE_ROWS) {
      let first_of_four = (r * TOKENS + TOKENS - 1u) / 4u * 4u;
      if (VALUE_LANES >= 4u) {
        let sum = team_sums(sums, value_lane);
        let place_of_four = first_of_four + value_lane;
        let its = first_token + place_of_four % TOKENS;
        let its_value = first + team + place_of_four / TOKENS * VALUE_TEAMS;
        if (value_lane < 4u && place_of_four < VALUE_ROWS * TOKENS && its_value < VALUE && its < count) {
          put_value(its, head * VALUE + its_value, sum, power);
        }
      } else {
        var all = sums;
        for (var step = 1u; step < VALUE_LANES; step *= 2u) {
          all += subgroupShuffleXor(all, step);
        }
        for (var k = 0u; k < 4u; k++) {
          let its = first_token + (first_of_four + k) % TOKENS;
          let its_value = first + team + (first_of_four + k) / TOKENS * VALUE_TEAMS;
          if (value_lane == 0u && first_of_four + k < VALUE_ROWS * TOKENS && its_value < VALUE && its < count) {
            put_value(its, head * VALUE + its_value, all[k], power);
          }
        }
      }
      sums = vec4<f32>(0.0);
    }
#endunroll
  }
}
