// The attention of a small layer for one token, from the residual stream to the residual stream: norm, input projections, the token's row of the cache, the query, attention with its heads' values, and the
// output projection. As matvec, mla/kv_write, q_absorb, attention and output have them, in one dispatch: between those a small model waits for nothing but dispatches.
//
// x         [HIDDEN] f32, zero to the next multiple of 16: the token's residual stream, read, and at the end added to
// norms     f32, zero-padded: what multiplies x from 0 on, the query's latent from QUERY_NORM on, the cache's from LATENT_NORM on, in vectors
// input     [INPUT_ROWS, 16 INPUT_CHUNKS]: the query's latent (QUERY_RANK rows), from row KV_START on the cache's (LATENT) and the key part (ROPE)
// query_b   [HEADS * (NOPE + ROPE), QUERY_RANK]
// kv_b      [HEADS * (NOPE + VALUE), LATENT]
// output    [HIDDEN, HEADS * VALUE]
//           all in WEIGHT_FORMAT; their scales for fp8 [ceil(rows / 128), ceil(columns / 128)] f32
// cache     [blocks, BLOCK_SIZE, CACHE_ROW] in CACHE_FORMAT (f32 or f16); the token's row is written, those before are read
// board     [HEADS * HIDDEN + 1] u32, zeros before and after (lib/board.wgsl): each head's part of what is added, then how many heads are done
//
// Dispatch: (HEADS, 1) workgroups of WORKGROUP; nothing for an empty batch. Every workgroup has a head, and all that is the same for all heads it computes for itself. An invocation loads all its weights
// before it computes anything, so that memory is waited for once, not once a projection: the layer must be so small that they fit its registers. The workgroup that is done last adds up.
//
// Constants, besides shapes: LANES (a subgroup's size), WORDS (bytes of a weight); for each product, INPUT_ of `input`, QUERY_ of `query_b`, VALUE_ of the values, OUTPUT_ of `output`: LANES (invocations that share a row, a power
// of two, at most a subgroup), LOADS (chunks of 16 columns that each of them has), ROUNDS (rows that each of them has); VECTOR_LANES (a power of two, at least LATENT / 4) and ABSORB_ROUNDS
// (ceil(NOPE / SLICES)); ROW_LOADS and LATENT_LOADS (vectors of a row and of its latent that a lane has); ROWS_AHEAD (rows of the cache that a subgroup loads at once). QUERY_RANK, LATENT and VALUE
// are multiples of 16, ROPE of 4. Numerics: f32; the token's row is rounded as the cache has it before it is used.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/cached_vector.wgsl"
#include "lib/stored_vector.wgsl"
#include "lib/rotate.wgsl"
#include "lib/board.wgsl"
#include "lib/chunk_dot.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> norms: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> input: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> query_b: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> kv_b: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> output: array<vec4<u32>>;
@group(0) @binding(8) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> cache: array<Cached>;
@group(0) @binding(10) var<storage, read_write> board: array<atomic<u32>>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(11) var<storage, read> input_scales: array<f32>;
@group(0) @binding(12) var<storage, read> query_scales: array<f32>;
@group(0) @binding(13) var<storage, read> kv_scales: array<f32>;
@group(0) @binding(14) var<storage, read> output_scales: array<f32>;
#endif

const INPUT_CHUNKS: u32 = (HIDDEN + 15u) / 16u;
const QUERY_CHUNKS: u32 = QUERY_RANK / 16u;
const LATENT_CHUNKS: u32 = LATENT / 16u;
const VALUE_CHUNKS: u32 = VALUE / 16u;
const LATENT_VECTORS: u32 = LATENT / 4u;
const WIDTH_VECTORS: u32 = (LATENT + ROPE) / 4u;
const PROJECTED: u32 = QUERY_RANK + LATENT + ROPE;
const MEMBERS: u32 = WORKGROUP / LANES;
// Of the absorbed query's rows.
const SLICES: u32 = WORKGROUP / VECTOR_LANES;
const ROOM: u32 = max(WORKGROUP, MEMBERS * LATENT_VECTORS);
const LEAST: f32 = -3e38;

// Whatever invocations write number by number is no array of vectors: writing a part of one may write all of it.

// The query's latent, the cache's and the key part, before their norms.
var<workgroup> projected: array<f32, PROJECTED>;
// The head's query: NOPE, ROPE.
var<workgroup> head_query: array<f32, NOPE + ROPE>;
// The token's row of the cache.
var<workgroup> own: array<vec4<f32>, WIDTH_VECTORS>;
// The slices' sums of the absorbed query, [SLICES, VECTOR_LANES]; then the subgroups' attended latents, [MEMBERS, LATENT_VECTORS].
var<workgroup> shared_sums: array<vec4<f32>, ROOM>;
// The absorbed query with its rope part, and zeros; then the attended latent.
var<workgroup> query: array<vec4<f32>, ROW_LOADS * LANES>;
var<workgroup> subgroup_most: array<f32, MEMBERS>;
var<workgroup> subgroup_weights: array<f32, MEMBERS>;
var<workgroup> values: array<f32, VALUE>;
// What all heads add, and zeros.
var<workgroup> added: array<f32, INPUT_CHUNKS * 16u>;
var<workgroup> is_last: u32;

fn projected_vector(vector: u32) -> vec4<f32> {
  let at = vector * 4u;
  return vec4<f32>(projected[at], projected[at + 1u], projected[at + 2u], projected[at + 3u]);
}

fn values_vector(vector: u32) -> vec4<f32> {
  let at = vector * 4u;
  return vec4<f32>(values[at], values[at + 1u], values[at + 2u], values[at + 3u]);
}

// The row of `input` that makes number `at` of what is projected.
fn input_row(at: u32) -> u32 {
  let place = min(at, PROJECTED - 1u);
  return select(place, place - QUERY_RANK + KV_START, place >= QUERY_RANK);
}

// Four columns of `kv_b`; with words of four the word alone: neighbours have the others of its vector.
fn stored(row: u32, vector: u32) -> Stored {
#if WORDS == 1
  return kv_b[row * LATENT_CHUNKS + vector / 4u][vector % 4u];
#endif
#if WORDS == 2
  let words = kv_b[(row * LATENT_CHUNKS + vector / 4u) * 2u + vector % 4u / 2u];
  return select(words.xy, words.zw, vector % 2u == 1u);
#endif
#if WORDS == 4
  return kv_b[row * LATENT_CHUNKS * 4u + vector];
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (token_count() == 0u) {
    return;
  }
  let head = group.x;
  let lane = local % LANES;
  let member = local / LANES;
  // Zero, which no compiler knows.
  let nothing = token_count() >> 31u;

  // Whatever does not depend on something computed is asked for first.
  let sequence = token_sequence(0u);
  let position = token_position(0u);
  let input_lane = local % INPUT_LANES;
  var x_chunks: array<vec4<f32>, 4u * INPUT_LOADS>;
#unroll i < INPUT_LOADS
#unroll v < 4
  x_chunks[i * 4u + v] = x[min(input_lane + i * INPUT_LANES, INPUT_CHUNKS - 1u) * 4u + v];
#endunroll
#endunroll
  var input_words: array<vec4<u32>, INPUT_ROUNDS * INPUT_LOADS * WORDS>;
#unroll r < INPUT_ROUNDS
  let row = input_row(local / INPUT_LANES + r * (WORKGROUP / INPUT_LANES));
#unroll i < INPUT_LOADS
#unroll w < WORDS
  input_words[(r * INPUT_LOADS + i) * WORDS + w] = input[(row * INPUT_CHUNKS + min(input_lane + i * INPUT_LANES, INPUT_CHUNKS - 1u)) * WORDS + w];
#endunroll
#endunroll
#endunroll
  let query_lane = local % QUERY_LANES;
  var query_words: array<vec4<u32>, QUERY_ROUNDS * QUERY_LOADS * WORDS>;
#unroll r < QUERY_ROUNDS
  let row = head * (NOPE + ROPE) + min(local / QUERY_LANES + r * (WORKGROUP / QUERY_LANES), NOPE + ROPE - 1u);
#unroll i < QUERY_LOADS
#unroll w < WORDS
  query_words[(r * QUERY_LOADS + i) * WORDS + w] = query_b[(row * QUERY_CHUNKS + min(query_lane + i * QUERY_LANES, QUERY_CHUNKS - 1u)) * WORDS + w];
#endunroll
#endunroll
#endunroll
  let key_row = head * (NOPE + VALUE);
  let absorb_vector = min(local % VECTOR_LANES, LATENT_VECTORS - 1u);
  let slice = local / VECTOR_LANES;
  var absorb_words: array<Stored, ABSORB_ROUNDS>;
#unroll r < ABSORB_ROUNDS
  let row = key_row + min(slice + r * SLICES, NOPE - 1u);
  absorb_words[r] = stored(row, absorb_vector);
#endunroll
  let value_row = key_row + NOPE;
  let value_lane = local % VALUE_LANES;
  var value_words: array<vec4<u32>, VALUE_ROUNDS * VALUE_LOADS * WORDS>;
#unroll r < VALUE_ROUNDS
  let row = value_row + min(local / VALUE_LANES + r * (WORKGROUP / VALUE_LANES), VALUE - 1u);
#unroll i < VALUE_LOADS
#unroll w < WORDS
  value_words[(r * VALUE_LOADS + i) * WORDS + w] = kv_b[(row * LATENT_CHUNKS + min(value_lane + i * VALUE_LANES, LATENT_CHUNKS - 1u)) * WORDS + w];
#endunroll
#endunroll
#endunroll
  let output_lane = local % OUTPUT_LANES;
  var output_words: array<vec4<u32>, OUTPUT_ROUNDS * OUTPUT_LOADS * WORDS>;
#unroll r < OUTPUT_ROUNDS
  let row = min(local / OUTPUT_LANES + r * (WORKGROUP / OUTPUT_LANES), HIDDEN - 1u);
#unroll i < OUTPUT_LOADS
#unroll w < WORDS
  output_words[(r * OUTPUT_LOADS + i) * WORDS + w] = output[((row * HEADS + head) * VALUE_CHUNKS + min(output_lane + i * OUTPUT_LANES, VALUE_CHUNKS - 1u)) * WORDS + w];
#endunroll
#endunroll
#endunroll
  // Where the rows of the cache begin that the subgroup has, as lanes know them.
  var row_start = cache_row(sequence, min(member + lane * MEMBERS, position));

  // The input projections.
  var squares = 0.0;
#unroll i < INPUT_LOADS
  let chunk = min(input_lane + i * INPUT_LANES, INPUT_CHUNKS - 1u);
  let inside = select(0.0, 1.0, input_lane + i * INPUT_LANES < INPUT_CHUNKS);
#unroll v < 4
  let vector = inside * x_chunks[i * 4u + v];
  squares += dot(vector, vector);
  x_chunks[i * 4u + v] = vector * norms[chunk * 4u + v];
#endunroll
#endunroll
  let input_factor = WEIGHT_FACTOR * inverseSqrt(team_sum(squares, INPUT_LANES) / f32(HIDDEN) + EPSILON);
#unroll r < INPUT_ROUNDS
  let at = local / INPUT_LANES + r * (WORKGROUP / INPUT_LANES);
  var sum = 0.0;
#unroll i < INPUT_LOADS
  var words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
  words[w] = input_words[(r * INPUT_LOADS + i) * WORDS + w];
#endunroll
  var products = chunk_dot(decode_chunk(words), Chunk(x_chunks[i * 4u], x_chunks[i * 4u + 1u], x_chunks[i * 4u + 2u], x_chunks[i * 4u + 3u]));
#if WEIGHT_FORMAT == fp8
  products *= input_scales[input_row(at) / 128u * ((HIDDEN + 127u) / 128u) + min(input_lane + i * INPUT_LANES, INPUT_CHUNKS - 1u) / 8u];
#endif
  sum += products;
#endunroll
  sum = team_sum(sum, INPUT_LANES);
  if (input_lane == 0u && at < PROJECTED) {
    projected[at] = sum * input_factor;
  }
#endunroll
  workgroupBarrier();

  // The head's query.
  var query_chunks: array<vec4<f32>, 4u * QUERY_LOADS>;
  squares = 0.0;
#unroll i < QUERY_LOADS
  let chunk = min(query_lane + i * QUERY_LANES, QUERY_CHUNKS - 1u);
  let inside = select(0.0, 1.0, query_lane + i * QUERY_LANES < QUERY_CHUNKS);
#unroll v < 4
  let vector = inside * projected_vector(chunk * 4u + v);
  squares += dot(vector, vector);
  query_chunks[i * 4u + v] = vector * norms[QUERY_NORM + chunk * 4u + v];
#endunroll
#endunroll
  let query_factor = WEIGHT_FACTOR * inverseSqrt(team_sum(squares, QUERY_LANES) / f32(QUERY_RANK) + LATENT_EPSILON);
#unroll r < QUERY_ROUNDS
  let at = local / QUERY_LANES + r * (WORKGROUP / QUERY_LANES);
  var sum = 0.0;
#unroll i < QUERY_LOADS
  var words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
  words[w] = query_words[(r * QUERY_LOADS + i) * WORDS + w];
#endunroll
  var products = chunk_dot(decode_chunk(words), Chunk(query_chunks[i * 4u], query_chunks[i * 4u + 1u], query_chunks[i * 4u + 2u], query_chunks[i * 4u + 3u]));
#if WEIGHT_FORMAT == fp8
  products *= query_scales[(head * (NOPE + ROPE) + min(at, NOPE + ROPE - 1u)) / 128u * ((QUERY_RANK + 127u) / 128u) + min(query_lane + i * QUERY_LANES, QUERY_CHUNKS - 1u) / 8u];
#endif
  sum += products;
#endunroll
  sum = team_sum(sum, QUERY_LANES);
  if (query_lane == 0u && at < NOPE + ROPE) {
    head_query[at] = sum * query_factor;
  }
#endunroll

  // The token's row of the cache.
  squares = 0.0;
  for (var v = lane; v < LATENT_VECTORS; v += LANES) {
    let vector = projected_vector(QUERY_RANK / 4u + v);
    squares += dot(vector, vector);
  }
  let latent_factor = inverseSqrt(subgroupAdd(squares) / f32(LATENT) + LATENT_EPSILON);
  for (var v = local; v < CACHE_ROW; v += WORKGROUP) {
    var row_values = vec4<f32>(0.0);
    if (v < LATENT_VECTORS) {
      row_values = (projected_vector(QUERY_RANK / 4u + v) * latent_factor) * norms[LATENT_NORM + v];
    } else if (v < WIDTH_VECTORS) {
      row_values = rotated(projected_vector(QUERY_RANK / 4u + v), position, v - LATENT_VECTORS);
    }
    let kept = packed(row_values, nothing);
    if (v < WIDTH_VECTORS) {
      own[v] = unpacked(kept);
    }
    if (head == 0u) {
      cache[cache_row(sequence, position) + v] = kept;
    }
  }
  workgroupBarrier();

  // The query in the cache's space.
  var absorbed: vec4<f32>;
#unroll r < ABSORB_ROUNDS
  let d = slice + r * SLICES;
  if (d < NOPE) {
    var factor = head_query[d];
#if WEIGHT_FORMAT == fp8
    factor *= kv_scales[(key_row + d) / 128u * ((LATENT + 127u) / 128u) + absorb_vector / 32u];
#endif
    absorbed += factor * decoded(absorb_words[r]);
  }
#endunroll
  shared_sums[local] = absorbed * WEIGHT_FACTOR;
  for (var v = local; v < ROPE / 4u; v += WORKGROUP) {
    let at = NOPE + v * 4u;
    query[LATENT_VECTORS + v] = rotated(vec4<f32>(head_query[at], head_query[at + 1u], head_query[at + 2u], head_query[at + 3u]), position, v);
  }
  workgroupBarrier();
  for (var v = local; v < LATENT_VECTORS; v += WORKGROUP) {
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < SLICES; s++) {
      sum += shared_sums[s * VECTOR_LANES + v];
    }
    query[v] = sum;
  }
  workgroupBarrier();
  var of_query: array<vec4<f32>, ROW_LOADS>;
#unroll i < ROW_LOADS
  of_query[i] = query[lane + i * LANES];
#endunroll

  // Attention. A subgroup attends to its rows by itself: the last to the token's own first, all to those of the cache, some at a time.
  let has_own = member == MEMBERS - 1u;
  var dots = 0.0;
  var attended: array<vec4<f32>, LATENT_LOADS>;
#unroll i < ROW_LOADS
  let vector = select(vec4<f32>(0.0), own[min(lane + i * LANES, WIDTH_VECTORS - 1u)], has_own && lane + i * LANES < WIDTH_VECTORS);
  dots += dot(of_query[i], vector);
  if (i < LATENT_LOADS) {
    attended[min(i, LATENT_LOADS - 1u)] = vector;
  }
#endunroll
  var most = select(LEAST, subgroupAdd(dots) * SCALE, has_own);
  dots = 0.0;
  var weight_sum = select(0.0, 1.0, has_own);
  for (var first = 0u; first < position; first += MEMBERS * LANES) {
    if (first > 0u) {
      row_start = cache_row(sequence, min(first + member + lane * MEMBERS, position));
    }
    for (var in_set = 0u; in_set < LANES && first + in_set * MEMBERS < position; in_set += ROWS_AHEAD) {
      var keys: array<Cached, ROWS_AHEAD * ROW_LOADS>;
#unroll a < ROWS_AHEAD
      let start = subgroupShuffle(row_start, in_set + a);
#unroll i < ROW_LOADS
      keys[a * ROW_LOADS + i] = cache[start + min(lane + i * LANES, WIDTH_VECTORS - 1u)];
#endunroll
#endunroll
      var row_weights: array<f32, ROWS_AHEAD>;
      var top = most;
#unroll a < ROWS_AHEAD
      var row_dots = 0.0;
#unroll i < ROW_LOADS
      row_dots += dot(of_query[i], unpacked(keys[a * ROW_LOADS + i]));
#endunroll
      row_weights[a] = select(LEAST, subgroupAdd(row_dots) * SCALE, first + (in_set + a) * MEMBERS + member < position);
      top = max(top, row_weights[a]);
#endunroll
      let shrink = exp(most - top);
      most = top;
      weight_sum *= shrink;
#unroll i < LATENT_LOADS
      attended[i] *= shrink;
#endunroll
#unroll a < ROWS_AHEAD
      // What is beyond may be what another workgroup is writing.
      if (first + (in_set + a) * MEMBERS + member < position) {
        let row_weight = exp(row_weights[a] - top);
        weight_sum += row_weight;
#unroll i < LATENT_LOADS
        attended[i] += row_weight * unpacked(keys[a * ROW_LOADS + i]);
#endunroll
      }
#endunroll
    }
  }
  if (lane == 0u) {
    subgroup_most[member] = most;
    subgroup_weights[member] = weight_sum;
  }
#unroll i < LATENT_LOADS
  if (lane + i * LANES < LATENT_VECTORS) {
    shared_sums[member * LATENT_VECTORS + lane + i * LANES] = attended[i];
  }
#endunroll
  workgroupBarrier();
  for (var v = local; v < LATENT_VECTORS; v += WORKGROUP) {
    var top = LEAST;
    for (var m = 0u; m < MEMBERS; m++) {
      top = max(top, subgroup_most[m]);
    }
    var sum = vec4<f32>(0.0);
    var weight = 0.0;
    for (var m = 0u; m < MEMBERS; m++) {
      let factor = exp(subgroup_most[m] - top);
      weight += factor * subgroup_weights[m];
      sum += factor * shared_sums[m * LATENT_VECTORS + v];
    }
    query[v] = sum / weight;
  }
  workgroupBarrier();

  // The head's values.
#unroll r < VALUE_ROUNDS
  let at = local / VALUE_LANES + r * (WORKGROUP / VALUE_LANES);
  var sum = 0.0;
#unroll i < VALUE_LOADS
  let chunk = min(value_lane + i * VALUE_LANES, LATENT_CHUNKS - 1u);
  var words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
  words[w] = value_words[(r * VALUE_LOADS + i) * WORDS + w];
#endunroll
  var products = chunk_dot(decode_chunk(words), Chunk(query[chunk * 4u], query[chunk * 4u + 1u], query[chunk * 4u + 2u], query[chunk * 4u + 3u]));
#if WEIGHT_FORMAT == fp8
  products *= kv_scales[(value_row + min(at, VALUE - 1u)) / 128u * ((LATENT + 127u) / 128u) + chunk / 8u];
#endif
  sum += select(0.0, products, value_lane + i * VALUE_LANES < LATENT_CHUNKS);
#endunroll
  sum = team_sum(sum, VALUE_LANES);
  if (value_lane == 0u && at < VALUE) {
    values[at] = sum * WEIGHT_FACTOR;
  }
#endunroll
  workgroupBarrier();

  // What the head adds to the residual stream.
#unroll r < OUTPUT_ROUNDS
  let at = local / OUTPUT_LANES + r * (WORKGROUP / OUTPUT_LANES);
  var sum = 0.0;
#unroll i < OUTPUT_LOADS
  let chunk = min(output_lane + i * OUTPUT_LANES, VALUE_CHUNKS - 1u);
  var words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
  words[w] = output_words[(r * OUTPUT_LOADS + i) * WORDS + w];
#endunroll
  var products = chunk_dot(decode_chunk(words), Chunk(values_vector(chunk * 4u), values_vector(chunk * 4u + 1u), values_vector(chunk * 4u + 2u), values_vector(chunk * 4u + 3u)));
#if WEIGHT_FORMAT == fp8
  products *= output_scales[min(at, HIDDEN - 1u) / 128u * ((HEADS * VALUE + 127u) / 128u) + (head * VALUE_CHUNKS + chunk) / 8u];
#endif
  sum += select(0.0, products, output_lane + i * OUTPUT_LANES < VALUE_CHUNKS);
#endunroll
  sum = team_sum(sum, OUTPUT_LANES);
  if (output_lane == 0u && at < HIDDEN) {
    put_up(head * HIDDEN + at, sum * WEIGHT_FACTOR);
  }
#endunroll
  storageBarrier();
  if (local == 0u && arrives_last(HEADS * HIDDEN, HEADS)) {
    is_last = 1u;
  }
  if (workgroupUniformLoad(&is_last) == 0u) {
    return;
  }
  for (var column = local; column < HIDDEN; column += WORKGROUP) {
    added[column] = taken_sum(column, HIDDEN, HEADS);
  }
  workgroupBarrier();
  for (var v = local; v < INPUT_CHUNKS * 4u; v += WORKGROUP) {
    x[v] += vec4<f32>(added[v * 4u], added[v * 4u + 1u], added[v * 4u + 2u], added[v * 4u + 3u]);
  }
}
