// All that a head does between the projections of its layer, for a few tokens that follow few others: the cache's rows of the step, queries into the latent space,
// attention, and its values. As mla/kv_write, q_absorb, attention and output have them, in one dispatch: each of those waits for memory once or twice, and for the one before.
//
// q       [tokens, Q_STRIDE] f32, per head [NOPE | ROPE]
// x       [tokens, X_STRIDE] f32, from column X_OFFSET on: the step's latents and key parts (lib/kv_values.wgsl)
// weights kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// cache   [blocks, BLOCK_SIZE, 4 CACHE_ROW] in CACHE_FORMAT; the step's rows are written, those before are read
// out     [tokens, OUT_STRIDE] f32, per head VALUE
//
// Dispatch: (HEADS, tokens) workgroups of WORKGROUP. Every one computes the rows of the step that its token attends to by itself: no other workgroup's writes are waited for.
// Tokens attend to at most MOST_POSITIONS positions, of which at most OWN_ROWS, the last, are the step's; rows of a sequence follow each other in the step.
// Scores are f32, and so are sums. Rows of the step are rounded as the cache has them before they are used.
//
// Constants, besides shapes: WORKGROUP (invocations, a whole number of subgroups), LANES (a subgroup's size), CHUNK_LANES (a power of two, at least CHUNKS), ABSORB_LOADS
// (ceil(NOPE / (WORKGROUP / CHUNK_LANES)) rows times WORDS), VECTOR_LANES (a power of two, at least LATENT / 4), VALUE_LOADS (ceil(CHUNKS / 4) times WORDS), WORDS (vectors of
// 16 bytes in a chunk), KEYS_AHEAD and VALUES_AHEAD (loads of the cache under way at once: vectors of four positions, positions), QUERY_VECTORS (a multiple of KEYS_AHEAD
// subgroups, at least the row's vectors), ROOM (what is shared, in vectors of 16 bytes). LATENT is a multiple of 16, ROPE of 4.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/weights.wgsl"
#include "lib/kv_values.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> q: array<f32>;
@group(0) @binding(4) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> gamma: array<f32>;
@group(0) @binding(6) var<storage, read> weights: array<vec4<u32>>;
// Four columns as the cache has them.
#if CACHE_FORMAT == f16
alias Cached = vec2<u32>;
#else
alias Cached = vec4<f32>;
#endif
@group(0) @binding(7) var<storage, read_write> cache: array<Cached>;
@group(0) @binding(8) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(9) var<storage, read> scales: array<f32>;
#endif

const SUBGROUP_COUNT: u32 = WORKGROUP / LANES;
const SLICES: u32 = WORKGROUP / CHUNK_LANES;
const LATENT_VECTORS: u32 = LATENT / 4u;
const WIDTH_VECTORS: u32 = (LATENT + ROPE) / 4u;
const PARTS: u32 = WORKGROUP / VECTOR_LANES;

// The slices' sums of the absorbed query; then the parts' sums of the attended latent.
var<workgroup> shared_sums: array<vec4<f32>, ROOM>;
// The absorbed query with its rope part, and zeros; then the attended latent.
var<workgroup> query: array<vec4<f32>, QUERY_VECTORS>;
// The sequence's rows of this step, up to the token's own.
var<workgroup> own_rows: array<Cached, OWN_ROWS * CACHE_ROW>;
var<workgroup> scores: array<f32, MOST_POSITIONS>;
// Where cached rows start.
var<workgroup> rows: array<u32, MOST_POSITIONS>;
var<workgroup> subgroup_values: array<f32, SUBGROUP_COUNT>;

#if CACHE_FORMAT == f16
fn unpacked(words: Cached) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

fn packed(values: vec4<f32>) -> Cached {
  let kept = clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0));
  return vec2<u32>(pack2x16float(kept.xy), pack2x16float(kept.zw));
}
#else
fn unpacked(values: Cached) -> vec4<f32> {
  return values;
}

fn packed(values: vec4<f32>) -> Cached {
  return values;
}
#endif

fn workgroup_sum(value: f32, local: u32, lane: u32) -> f32 {
  let sum = subgroupAdd(value);
  workgroupBarrier();
  if (lane == 0u) {
    subgroup_values[local / LANES] = sum;
  }
  workgroupBarrier();
  var total = 0.0;
  for (var i = 0u; i < SUBGROUP_COUNT; i++) {
    total += subgroup_values[i];
  }
  return total;
}

fn workgroup_max(value: f32, local: u32, lane: u32) -> f32 {
  let most = subgroupMax(value);
  workgroupBarrier();
  if (lane == 0u) {
    subgroup_values[local / LANES] = most;
  }
  workgroupBarrier();
  var all = subgroup_values[0];
  for (var i = 1u; i < SUBGROUP_COUNT; i++) {
    all = max(all, subgroup_values[i]);
  }
  return all;
}

fn weight_factor(row: u32, chunk: u32) -> f32 {
#if WEIGHT_FORMAT == fp8
  return WEIGHT_FACTOR * scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#else
  return WEIGHT_FACTOR;
#endif
}

// Every fourth chunk of a row, from number `first` on.
fn load_values(row: u32, first: u32) -> array<vec4<u32>, VALUE_LOADS> {
  var words: array<vec4<u32>, VALUE_LOADS>;
#unroll i < VALUE_LOADS
  words[i] = weights[(row * CHUNKS + min(first + i / WORDS * 4u, CHUNKS - 1u)) * WORDS + i % WORDS];
#endunroll
  return words;
}

fn value_sum(words: array<vec4<u32>, VALUE_LOADS>, row: u32, first: u32) -> f32 {
  var sum = 0.0;
#unroll i < VALUE_LOADS
  if (i % WORDS == 0u) {
    let chunk = first + i / WORDS * 4u;
    if (chunk < CHUNKS) {
      var chunk_words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
      chunk_words[w] = words[min(i + w, VALUE_LOADS - 1u)];
#endunroll
      let w = decode_chunk(chunk_words);
      let at = chunk * 4u;
      sum += weight_factor(row, chunk) * (dot(w[0], query[at]) + dot(w[1], query[at + 1u]) + dot(w[2], query[at + 2u]) + dot(w[3], query[at + 3u]));
    }
  }
#endunroll
  return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let head = group.x;
  let token = group.y;
  if (token >= token_count()) {
    return;
  }
  let lane = local % LANES;
  let sequence = token_sequence(token);
  let position = token_position(token);
  var own = 1u;
  for (var i = 1u; i < OWN_ROWS; i++) {
    if (own == i && i <= token && token_sequence(token - min(i, token)) == sequence) {
      own = i + 1u;
    }
  }
  let cached_count = position + 1u - own;
  let length = min(position + 1u, MOST_POSITIONS);

  // The head's rows of weights that make the absorbed query are on their way while the step's rows are made.
  let head_row = head * (NOPE + VALUE);
  let chunk = min(local % CHUNK_LANES, CHUNKS - 1u);
  let slice = local / CHUNK_LANES;
  var words: array<vec4<u32>, ABSORB_LOADS>;
#unroll i < ABSORB_LOADS
  words[i] = weights[((head_row + min(slice + i / WORDS * SLICES, NOPE - 1u)) * CHUNKS + chunk) * WORDS + i % WORDS];
#endunroll

  for (var p = local; p < min(cached_count, MOST_POSITIONS); p += WORKGROUP) {
    rows[p] = cache_row(sequence, p);
  }
  let own_place = cache_row(sequence, position);
  for (var r = 0u; r < own; r++) {
    let base = (token - r) * X_STRIDE + X_OFFSET;
    var squares = 0.0;
    for (var column = local; column < LATENT; column += WORKGROUP) {
      squares += x[base + column] * x[base + column];
    }
    let factor = inverseSqrt(workgroup_sum(squares, local, lane) / f32(LATENT) + EPSILON);
    for (var v = local; v < CACHE_ROW; v += WORKGROUP) {
      let values = packed(vec4<f32>(
        value_of(v * 4u, base, position - r, factor), value_of(v * 4u + 1u, base, position - r, factor),
        value_of(v * 4u + 2u, base, position - r, factor), value_of(v * 4u + 3u, base, position - r, factor)));
      own_rows[r * CACHE_ROW + v] = values;
      if (r == 0u && head == 0u) {
        cache[own_place + v] = values;
      }
    }
  }

  let q_base = token * Q_STRIDE + head * (NOPE + ROPE);
  var sum0 = vec4<f32>(0.0);
  var sum1 = vec4<f32>(0.0);
  var sum2 = vec4<f32>(0.0);
  var sum3 = vec4<f32>(0.0);
#unroll i < ABSORB_LOADS
  if (i % WORDS == 0u) {
    let d = slice + i / WORDS * SLICES;
    let row = min(d, NOPE - 1u);
    var chunk_words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
    chunk_words[w] = words[min(i + w, ABSORB_LOADS - 1u)];
#endunroll
    let a = decode_chunk(chunk_words);
    let factor = select(0.0, weight_factor(head_row + row, chunk) * q[q_base + row], d < NOPE);
    sum0 += a[0] * factor;
    sum1 += a[1] * factor;
    sum2 += a[2] * factor;
    sum3 += a[3] * factor;
  }
#endunroll
  shared_sums[local] = sum0;
  shared_sums[WORKGROUP + local] = sum1;
  shared_sums[2u * WORKGROUP + local] = sum2;
  shared_sums[3u * WORKGROUP + local] = sum3;
  if (local < ROPE / 4u) {
    let part = q_base + NOPE + local * 4u;
    let turn = rope_table[position * (ROPE / 2u) + local * 2u];
    let next_turn = rope_table[position * (ROPE / 2u) + local * 2u + 1u];
    query[LATENT_VECTORS + local] = vec4<f32>(
      q[part] * turn.x - q[part + 1u] * turn.y, q[part] * turn.y + q[part + 1u] * turn.x,
      q[part + 2u] * next_turn.x - q[part + 3u] * next_turn.y, q[part + 2u] * next_turn.y + q[part + 3u] * next_turn.x);
  }
  workgroupBarrier();
  for (var v = local; v < LATENT_VECTORS; v += WORKGROUP) {
    let at = v % 4u * WORKGROUP + v / 4u;
    var sum = vec4<f32>(0.0);
    for (var s = 0u; s < SLICES; s++) {
      sum += shared_sums[at + s * CHUNK_LANES];
    }
    query[v] = sum;
  }
  workgroupBarrier();

  // All subgroups go round equally often, the last ones for nothing: their sums are in uniform control flow.
  let last_cached = max(min(cached_count, MOST_POSITIONS), 1u) - 1u;
  let subgroup = local / LANES;
  for (var start = 0u; start < cached_count; start += 4u * SUBGROUP_COUNT) {
    let p = start + subgroup;
    let row = vec4<u32>(
      rows[min(p, last_cached)], rows[min(p + SUBGROUP_COUNT, last_cached)],
      rows[min(p + 2u * SUBGROUP_COUNT, last_cached)], rows[min(p + 3u * SUBGROUP_COUNT, last_cached)]);
    var sums = vec4<f32>(0.0);
    for (var v = lane; v < QUERY_VECTORS; v += LANES * KEYS_AHEAD) {
      var keys: array<Cached, 4u * KEYS_AHEAD>;
#unroll i < KEYS_AHEAD
      // Past the last of the row the query is zero.
      let vector = min(v + i * LANES, WIDTH_VECTORS - 1u);
#unroll a < 4
      keys[i * 4u + a] = cache[row[a] + vector];
#endunroll
#endunroll
#unroll i < KEYS_AHEAD
      let of_query = query[v + i * LANES];
      sums += vec4<f32>(
        dot(of_query, unpacked(keys[i * 4u])), dot(of_query, unpacked(keys[i * 4u + 1u])),
        dot(of_query, unpacked(keys[i * 4u + 2u])), dot(of_query, unpacked(keys[i * 4u + 3u])));
#endunroll
    }
    sums = subgroupAdd(sums);
    let own_position = p + lane * SUBGROUP_COUNT;
    if (lane < 4u && own_position <= last_cached) {
      scores[own_position] = sums[lane] * SCALE;
    }
  }
  for (var r = 0u; r < own; r++) {
    var sum = 0.0;
    for (var v = lane; v < WIDTH_VECTORS; v += LANES) {
      sum += dot(query[v], unpacked(own_rows[r * CACHE_ROW + v]));
    }
    sum = subgroupAdd(sum);
    if (local == 0u) {
      scores[min(position - r, MOST_POSITIONS - 1u)] = sum * SCALE;
    }
  }
  // Rows of weights that the values are made of: the first of them are on their way while scores become weights.
  let value_lane = local % 4u;
  var value = local / 4u;
  var value_words = load_values(head_row + NOPE + min(value, VALUE - 1u), value_lane);
  workgroupBarrier();

  var most = -3e38;
  for (var p = local; p < length; p += WORKGROUP) {
    most = max(most, scores[p]);
  }
  most = workgroup_max(most, local, lane);
  var weight_sum = 0.0;
  for (var p = local; p < length; p += WORKGROUP) {
    let weight = exp(scores[p] - most);
    scores[p] = weight;
    weight_sum += weight;
  }
  // Its barriers also stand between the weights' writers and readers.
  let share = 1.0 / workgroup_sum(weight_sum, local, lane);

  let vector = min(local % VECTOR_LANES, LATENT_VECTORS - 1u);
  let part = local / VECTOR_LANES;
  var attended = vec4<f32>(0.0);
  for (var p = part; p < cached_count; p += PARTS * VALUES_AHEAD) {
    var values: array<Cached, VALUES_AHEAD>;
#unroll i < VALUES_AHEAD
    values[i] = cache[rows[min(p + i * PARTS, last_cached)] + vector];
#endunroll
#unroll i < VALUES_AHEAD
    attended += select(0.0, scores[min(p + i * PARTS, last_cached)], p + i * PARTS < cached_count) * unpacked(values[i]);
#endunroll
  }
  if (part == 0u) {
    for (var r = 0u; r < own; r++) {
      attended += scores[min(position - r, MOST_POSITIONS - 1u)] * unpacked(own_rows[r * CACHE_ROW + vector]);
    }
  }
  shared_sums[local] = attended;
  workgroupBarrier();
  for (var v = local; v < LATENT_VECTORS; v += WORKGROUP) {
    var sum = vec4<f32>(0.0);
    for (var i = 0u; i < PARTS; i++) {
      sum += shared_sums[i * VECTOR_LANES + v];
    }
    query[v] = sum * share;
  }
  workgroupBarrier();

  for (var first = 0u; first < VALUE; first += WORKGROUP / 4u) {
    if (first > 0u) {
      value += WORKGROUP / 4u;
      value_words = load_values(head_row + NOPE + min(value, VALUE - 1u), value_lane);
    }
    var sum = value_sum(value_words, head_row + NOPE + min(value, VALUE - 1u), value_lane);
    sum += subgroupShuffleXor(sum, 1u);
    sum += subgroupShuffleXor(sum, 2u);
    if (value_lane == 0u && value < VALUE) {
      out[token * OUT_STRIDE + head * VALUE + value] = sum;
    }
  }
}
