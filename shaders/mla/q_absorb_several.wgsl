// Queries in the latent space, as mla/q_absorb.wgsl has them, for several tokens: all that a workgroup needs is asked for at once, and it reads weights that no other does, if there are no
// more than TILE_TOKENS tokens.
//
// Bindings and result as there. With SPLIT, for mla/attend_matrix.wgsl: out is what lib/absorbed_halves.wgsl says, and the step's rows of the cache are written besides, as mla/kv_write.wgsl has them, from
//   x [tokens, X_STRIDE] f32, from column X_OFFSET on latent and key part; gamma [LATENT or more] f32; cache in CACHE_FORMAT, f32 or f16; block_table
// A head's power of two goes by what its numbers cannot exceed, since no workgroup knows all of them: a weight is at most 448 scales.
//
// Dispatch: (ceil(CHUNKS / 4), HEADS, ceil(tokens / 32)) workgroups of 256: 32 tokens by 4 chunks (64 columns); with SPLIT some more in the second dimension, which write the cache, a row at a time.
// ROWS rows of weights at a time are in workgroup memory (24 KiB with the queries); an invocation has four tokens and four columns, of half of the rows. An fp8 weight times its scale is rounded once
// to f32; sums are f32.
//
// Constants, besides shapes: ROUNDS (ceil(NOPE / 64)); WORDS (bytes of a weight); with SPLIT LANES (a subgroup's size); Q_VECTORS (heads of q start at multiples of four, and so do their rotated parts), OUT_VECTORS (the same of out).
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
#if SPLIT
@group(0) @binding(4) var<storage, read_write> out: array<vec2<u32>>;
#else
#if OUT_VECTORS
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
#else
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
#endif
#endif
#if WEIGHT_FORMAT == fp8
@group(0) @binding(5) var<storage, read> scales: array<f32>;
#endif

#if SPLIT
@group(0) @binding(6) var<storage, read> block_table: array<u32>;
@group(0) @binding(7) var<storage, read> x: array<f32>;
@group(0) @binding(8) var<storage, read> gamma: array<f32>;
#if CACHE_FORMAT == f16
@group(0) @binding(9) var<storage, read_write> cache: array<u32>;
#else
@group(0) @binding(9) var<storage, read_write> cache: array<vec2<f32>>;
#endif
#include "lib/absorbed_halves.wgsl"
#include "lib/halves.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/kv_values.wgsl"
// Of a token's queries, by the eighths of the workgroup that read them.
var<workgroup> q_bounds: array<f32, 256>;
#endif

const TILE_TOKENS: u32 = 32u;
const TILE_CHUNKS: u32 = 4u;
const ROWS: u32 = 64u;
const HALF: u32 = ROWS / 2u;

// [ROWS, TILE_TOKENS]; no vectors, whose parts invocations may not write side by side.
var<workgroup> q_tile: array<f32, ROWS * TILE_TOKENS>;
// [ROWS, TILE_CHUNKS * 4], vectors of a chunk shuffled so that neighbours write to different banks; then what the second half of the rows comes to, [4, 128].
var<workgroup> w_tile: array<vec4<f32>, ROWS * TILE_CHUNKS * 4u>;

fn w_place(row: u32, chunk: u32, vector: u32) -> u32 {
  return (row * TILE_CHUNKS + chunk) * 4u + (vector ^ chunk);
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

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TILE_TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
#if SPLIT
  if (group.y >= HEADS) {
    let writers = groups.x * (groups.y - HEADS);
    for (var t = (group.y - HEADS) * groups.x + group.x; t < min(TILE_TOKENS, count - first); t += writers) {
      write_row(first + t, local);
    }
    return;
  }
#endif
  let head = group.y;
  // What this invocation stages. Tokens, rows and chunks past the last repeat it, and are not written or count as zero.
  let staged_query = min(first + local % TILE_TOKENS, count - 1u) * Q_STRIDE + head * (NOPE + ROPE);
  let query_row = local / TILE_TOKENS * 4u;
  let staged_row = local / TILE_CHUNKS;
  let staged_chunk = local % TILE_CHUNKS;
  let chunk = min(group.x * TILE_CHUNKS + staged_chunk, CHUNKS - 1u);
  var words: array<vec4<u32>, ROUNDS * WORDS>;
  var factors: array<f32, ROUNDS>;
  var queries: array<vec4<f32>, ROUNDS * 2>;
#unroll r < ROUNDS
  let row = head * (NOPE + VALUE) + min(r * ROWS + staged_row, NOPE - 1u);
#unroll v < WORDS
  words[r * WORDS + v] = weights[(row * CHUNKS + chunk) * VECTORS_PER_CHUNK + v];
#endunroll
  factors[r] = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
  factors[r] *= scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
  queries[2u * r] = query(staged_query, r * ROWS + query_row);
  queries[2u * r + 1u] = query(staged_query, r * ROWS + HALF + query_row);
#endunroll
#if SPLIT
  var most_scale = 0.0;
  for (var i = 0u; i < SCALE_COLUMNS * SCALE_BLOCKS; i++) {
    let block = min(head * (NOPE + VALUE) / 128u + i / SCALE_COLUMNS, (HEADS * (NOPE + VALUE) - 1u) / 128u);
    most_scale = max(most_scale, abs(scales[block * SCALE_COLUMNS + i % SCALE_COLUMNS]));
  }
  var sum = vec4<f32>(0.0);
#unroll r < ROUNDS
  sum += abs(queries[2u * r]) + abs(queries[2u * r + 1u]);
#endunroll
  var bound = dot(sum, vec4<f32>(448.0 * most_scale));
  for (var i = local / TILE_TOKENS; i < ROPE / 2u; i += 8u) {
    let part = query_pair(staged_query + NOPE + i * 2u);
    bound += abs(part.x) + abs(part.y);
  }
  q_bounds[local] = bound;
  // Of what it rotates, four columns of each, the first is loaded now and written in the end: the second half of the invocations has less to do then.
  let parts = min(TILE_TOKENS, count - first) * (ROPE / 4u);
  let first_part = (local + 128u) % 256u * groups.x + group.x;
  let known_part = min(first_part, parts - 1u);
  let part_token = first + known_part / (ROPE / 4u);
  let part_pair = known_part % (ROPE / 4u) * 2u;
  let part_position = token_position(part_token);
  let part_at = part_token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + part_pair * 2u;
  let part_values = vec4<f32>(query_pair(part_at), query_pair(part_at + 2u));
#else
  rotate_parts(first, min(TILE_TOKENS, count - first), head, group.x * 256u + local, groups.x * 256u);
#endif

  // Zero, which no compiler knows: a loop whose end it is part of stays one. Code that runs once waits for every line of it, since a layer's other dispatches have displaced it.
  let nothing = count >> 31u;
  // What it computes: neighbours have different columns of the same tokens.
  let vector = local % 16u;
  let quad = local / 16u % 8u;
  let half = local / 128u;
  var a = vec4<f32>(0.0);
  var b = vec4<f32>(0.0);
  var c = vec4<f32>(0.0);
  var d = vec4<f32>(0.0);
#if SPLIT
  let part_turns = turns_of(part_position, part_pair);
#endif
#unroll r < ROUNDS
  if (r > 0u) {
    workgroupBarrier();
  }
  var chunk_words: array<vec4<u32>, VECTORS_PER_CHUNK>;
#unroll v < WORDS
  chunk_words[v] = words[r * WORDS + v];
#endunroll
  let decoded = decode_chunk(chunk_words);
#unroll v < 4
  w_tile[w_place(staged_row, staged_chunk, v)] = decoded[v] * factors[r];
#endunroll
#unroll h < 2
#unroll i < 4
  q_tile[(h * HALF + query_row + i) * TILE_TOKENS + local % TILE_TOKENS] = queries[2u * r + h][i];
#endunroll
#endunroll
  workgroupBarrier();
  for (var k = half * HALF; k < half * HALF + HALF + nothing; k++) {
    let w = w_tile[w_place(k, vector / 4u, vector % 4u)];
    let at = k * TILE_TOKENS + quad * 4u;
    a += w * q_tile[at];
    b += w * q_tile[at + 1u];
    c += w * q_tile[at + 2u];
    d += w * q_tile[at + 3u];
  }
#endunroll
  workgroupBarrier();
  let pair = local % 128u;
  if (half == 1u) {
    w_tile[pair] = a;
    w_tile[128u + pair] = b;
    w_tile[256u + pair] = c;
    w_tile[384u + pair] = d;
  }
  workgroupBarrier();
  if (half == 0u) {
    let token = first + quad * 4u;
    let column = group.x * (TILE_CHUNKS * 16u) + vector * 4u;
    store(token, count, head, column, a + w_tile[pair]);
    store(token + 1u, count, head, column, b + w_tile[128u + pair]);
    store(token + 2u, count, head, column, c + w_tile[256u + pair]);
    store(token + 3u, count, head, column, d + w_tile[384u + pair]);
  }
#if SPLIT
  if (first_part < parts) {
    store_rotated(part_token, head, part_pair, part_values, part_turns);
  }
  for (var i = first_part + 256u * groups.x; i < parts; i += 256u * groups.x) {
    let token = first + i / (ROPE / 4u);
    let its_pair = i % (ROPE / 4u) * 2u;
    let at = token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + its_pair * 2u;
    store_rotated(token, head, its_pair, vec4<f32>(query_pair(at), query_pair(at + 2u)), turns_of(token_position(token), its_pair));
  }
#endif
}

#if SPLIT
// The biased exponent of the power of two of a token's and head's numbers.
fn exponent_of(tile_token: u32) -> u32 {
  var bound = 0.0;
  for (var i = 0u; i < 8u; i++) {
    bound += q_bounds[i * TILE_TOKENS + tile_token];
  }
  return halves_exponent(bound);
}

fn store(token: u32, count: u32, head: u32, column: u32, values: vec4<f32>) {
  if (token >= count || column >= LATENT) {
    return;
  }
  let exponent = exponent_of(token % TILE_TOKENS);
  store_split(token, head, column, values * power_of_two(exponent));
  if (column == 0u) {
    out[absorbed_power(token, head)] = vec2<u32>(bitcast<u32>(power_of_two(254u - exponent)), 0u);
  }
}

// Four columns, already times their power of two.
fn store_split(token: u32, head: u32, column: u32, values: vec4<f32>) {
  let near = rounded(values);
  let rest = values - near;
  let place = absorbed_place(token, head, column / 16u) * 2u + column % 16u / 4u;
  out[place] = vec2<u32>(pack2x16float(near.xy), pack2x16float(near.zw));
  out[place + ABSORBED_REST * 2u] = vec2<u32>(pack2x16float(rest.xy), pack2x16float(rest.zw));
}
#else
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
#endif

#if SPLIT
// Of two pairs.
fn turns_of(position: u32, pair: u32) -> vec4<f32> {
  let at = position * (ROPE / 2u) + pair;
  return vec4<f32>(rope_table[at], rope_table[at + 1u]);
}

fn store_rotated(token: u32, head: u32, pair: u32, values: vec4<f32>, turns: vec4<f32>) {
  let turned = vec4<f32>(
    values.x * turns.x - values.y * turns.y, values.x * turns.y + values.y * turns.x,
    values.z * turns.z - values.w * turns.w, values.z * turns.w + values.w * turns.z);
  store_split(token, head, LATENT + pair * 2u, turned * power_of_two(exponent_of(token % TILE_TOKENS)));
}
#else
fn rotated(token: u32, head: u32, pair: u32) -> vec2<f32> {
  let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
  let part = query_pair(token * Q_STRIDE + head * (NOPE + ROPE) + NOPE + pair * 2u);
  return vec2<f32>(part.x * turn.x - part.y * turn.y, part.x * turn.y + part.y * turn.x);
}

// Shared out to the workgroups of the head.
fn rotate_parts(first: u32, tokens: u32, head: u32, index: u32, step: u32) {
#if OUT_VECTORS
  for (var i = index; i < tokens * (ROPE / 4u); i += step) {
    let token = first + i / (ROPE / 4u);
    let pair = i % (ROPE / 4u) * 2u;
    let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
    out[base / 4u] = vec4<f32>(rotated(token, head, pair), rotated(token, head, pair + 1u));
  }
#else
  for (var i = index; i < tokens * (ROPE / 2u); i += step) {
    let token = first + i / (ROPE / 2u);
    let pair = i % (ROPE / 2u);
    let base = token * OUT_STRIDE + head * (LATENT + ROPE) + LATENT + pair * 2u;
    let turned = rotated(token, head, pair);
    out[base] = turned.x;
    out[base + 1u] = turned.y;
  }
#endif
}
#endif

#if SPLIT
// A token's row of the cache. What does not depend on the sum is asked for first.
fn write_row(token: u32, local: u32) {
  let base = token * X_STRIDE + X_OFFSET;
  let position = token_position(token);
  let row = cache_row(token_sequence(token), position) * 2u;
  var squares = 0.0;
  for (var column = local; column < LATENT; column += 256u) {
    squares += x[base + column] * x[base + column];
  }
  let some = subgroupAdd(squares);
  workgroupBarrier();
  if (local % LANES == 0u) {
    q_bounds[local / LANES] = some;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 256u / LANES; i++) {
    sum += q_bounds[i];
  }
  let factor = inverseSqrt(sum / f32(LATENT) + EPSILON);
  for (var pair = local; pair < CACHE_ROW * 2u; pair += 256u) {
    let values = vec2<f32>(value_of(pair * 2u, base, position, factor), value_of(pair * 2u + 1u, base, position, factor));
#if CACHE_FORMAT == f16
    cache[row + pair] = pack2x16float(clamp(values, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
#else
    cache[row + pair] = values;
#endif
  }
}
#endif
