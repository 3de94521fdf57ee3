// Attention over a short context, of 16 heads at a time by subgroup matrices (lib/subgroup_matrix.wgsl): a workgroup has POSITIONS positions of a token, for once. mla/q_absorb_several.wgsl has made the
// queries (lib/absorbed_halves.wgsl) and the step's rows of the cache, which is f16; mla/output_several.wgsl merges.
//
// partial [tokens, SPLITS, HEADS, LATENT / 4 + 1]: of each range of POSITIONS that holds some the attended latents, then the largest score and the weights' sum; of others nothing.
//
// Dispatch: (SPLITS, HEADS / 16, tokens) workgroups of 256: 8 subgroups. The keys are staged once for both products. For scores subgroups share fragments of positions and quarters of the columns; for values
// the latents' columns, 16 at a time, which go where they belong as they are.
//
// Precision: queries and weights are sums of two f16 numbers, sums are f32.
//
// Constants, besides shapes: SPLITS; KEY_LOADS (octets of the keys that an invocation loads); QUERY_CHUNKS (a quarter of the columns' chunks); SCALE (of scores); ABSORBED_TOKENS; SUM_STRIDE = 4. LATENT and ROPE are multiples of 16; CACHE_ROW is in octets.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/halves.wgsl"
#include "lib/absorbed_halves.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> halves: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> cache: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> partial: array<vec4<f32>>;

const NEUTRAL: f32 = -3e38;
// Weights are at most 1; times WEIGHT_UNIT they are in the range of f16.
const WEIGHT_UNIT: f32 = 16384.0;
const THREADS: u32 = 256u;
const POSITIONS: u32 = 32u;
const WIDTH_OCTETS: u32 = (LATENT + ROPE) / 8u;
const LATENT_CHUNKS: u32 = LATENT / 16u;
const RECORD_VECTORS: u32 = LATENT / 4u + 1u;
// In vectors of 16 bytes. Rows of keys have an odd number, so that eight of them lie in different banks.
const KEY_STRIDE: u32 = WIDTH_OCTETS + 1u;
// Each quarter's sums, [4, POSITIONS, 16 heads]; then weights, halves and the rest, [2, 16 heads, WEIGHT_STRIDE].
const SUMS_PLACE: u32 = POSITIONS * KEY_STRIDE;
const QUARTER_SUMS: u32 = POSITIONS * SUM_STRIDE;
const WEIGHTS_PLACE: u32 = SUMS_PLACE + 4u * QUARTER_SUMS;
const WEIGHT_STRIDE: u32 = POSITIONS / 8u + 1u;
var<workgroup> tile: array<vec4<u32>, WEIGHTS_PLACE + 32u * WEIGHT_STRIDE>;
#if SUBGROUP_MATRIX == emulated
var<workgroup> row_values: array<f32, THREADS>;
#endif

#include "lib/subgroup_matrix.wgsl"

// Over a head's 16 invocations.
#if SUBGROUP_MATRIX == emulated
fn row_max(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  row_values[local] = value;
  workgroupBarrier();
  var most = value;
  for (var i = 0u; i < 16u; i++) {
    most = max(most, row_values[local / 16u * 16u + i]);
  }
  return most;
}

fn row_sum(value: f32, local: u32) -> f32 {
  workgroupBarrier();
  row_values[local] = value;
  workgroupBarrier();
  var sum = 0.0;
  for (var i = 0u; i < 16u; i++) {
    sum += row_values[local / 16u * 16u + i];
  }
  return sum;
}
#else
fn row_max(value: f32, local: u32) -> f32 {
  var most = max(value, subgroupShuffleXor(value, 1u));
  most = max(most, subgroupShuffleXor(most, 2u));
  most = max(most, subgroupShuffleXor(most, 4u));
  return max(most, subgroupShuffleXor(most, 8u));
}

fn row_sum(value: f32, local: u32) -> f32 {
  var sum = value + subgroupShuffleXor(value, 1u);
  sum += subgroupShuffleXor(sum, 2u);
  sum += subgroupShuffleXor(sum, 4u);
  return sum + subgroupShuffleXor(sum, 8u);
}
#endif

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.z;
  if (token >= token_count()) {
    return;
  }
  let first = group.x * POSITIONS;
  let length = token_position(token) + 1u;
  if (first >= length) {
    return;
  }
  let sequence = token_sequence(token);
  let subgroup = min(subgroup_number(local), THREADS / 32u - 1u);
  let lane = local % 32u;
  let first_head = group.y * 16u;

  // Positions past the end repeat the last one, and have no weight.
  var keys: array<vec4<u32>, KEY_LOADS>;
#unroll i < KEY_LOADS
  let at = min(local + i * THREADS, POSITIONS * WIDTH_OCTETS - 1u);
  keys[i] = cache[cache_row(sequence, min(first + at / WIDTH_OCTETS, length - 1u)) + at % WIDTH_OCTETS];
#endunroll
  let row = local / 16u;
  let unit = bitcast<f32>(halves[absorbed_power(token, first_head + row) / 2u][(absorbed_power(token, first_head + row) % 2u) * 2u]) * SCALE;
#unroll i < KEY_LOADS
  let at = local + i * THREADS;
  if (at < POSITIONS * WIDTH_OCTETS) {
    tile[at / WIDTH_OCTETS * KEY_STRIDE + at % WIDTH_OCTETS] = keys[i];
  }
#endunroll
  let fragment = subgroup % 2u;
  let quarter = subgroup / 2u;
  // All at once, and not before the keys have left their registers.
  var queries: array<Right, 2 * QUERY_CHUNKS>;
#unroll i < QUERY_CHUNKS
  let query = absorbed_place(token, first_head, min(quarter + 4u * i, ABSORBED_CHUNKS - 1u));
  queries[2u * i] = load_right_stored(query);
  queries[2u * i + 1u] = load_right_stored(query + ABSORBED_REST);
#endunroll
  workgroupBarrier();
  var scores = Sum();
#unroll i < QUERY_CHUNKS
  let chunk = quarter + 4u * i;
  if (4u * i + 3u < ABSORBED_CHUNKS || chunk < ABSORBED_CHUNKS) {
    let key = load_left(fragment * 16u * KEY_STRIDE + 2u * chunk, KEY_STRIDE);
    // The rest first, its products being the smaller ones.
    scores = multiply_add(key, queries[2u * i + 1u], scores);
    scores = multiply_add(key, queries[2u * i], scores);
  }
#endunroll
  store_sum(SUMS_PLACE + quarter * QUARTER_SUMS + fragment * 16u * SUM_STRIDE, scores, lane);
  workgroupBarrier();

  // Two positions of a head each.
  let pair = local % 16u;
  var both = vec2<f32>(0.0);
  for (var i = 0u; i < 4u; i++) {
    let place = SUMS_PLACE + i * QUARTER_SUMS + pair * 2u * SUM_STRIDE + row / 4u;
    both += vec2<f32>(bitcast<f32>(tile[place][row % 4u]), bitcast<f32>(tile[place + SUM_STRIDE][row % 4u]));
  }
  both = select(vec2<f32>(NEUTRAL), both * unit, vec2<u32>(first + 2u * pair) + vec2<u32>(0u, 1u) < vec2<u32>(length));
  let most = row_max(max(both.x, both.y), local);
  let weights = exp(both - most);
  let total = row_sum(weights.x + weights.y, local);
  let all = vec4<f32>(weights, 0.0, 0.0) * WEIGHT_UNIT;
  let near = rounded(all);
  let word = WEIGHTS_PLACE + row * WEIGHT_STRIDE + pair / 4u;
  tile[word][pair % 4u] = pack2x16float(near.xy);
  tile[word + 16u * WEIGHT_STRIDE][pair % 4u] = pack2x16float((all - near).xy);
  let record = ((token * SPLITS + group.x) * HEADS + first_head) * RECORD_VECTORS;
  if (pair == 0u) {
    partial[record + (row + 1u) * RECORD_VECTORS - 1u] = vec4<f32>(most, total, 0.0, 0.0);
  }
  workgroupBarrier();

  for (var chunk = subgroup; chunk < LATENT_CHUNKS; chunk += THREADS / 32u) {
    var sum = Sum();
    for (var k = 0u; k < 2u; k++) {
      let values = load_right_rows(16u * k * KEY_STRIDE + 2u * chunk, KEY_STRIDE);
      sum = multiply_add(load_left(WEIGHTS_PLACE + 16u * WEIGHT_STRIDE + 2u * k, WEIGHT_STRIDE), values, sum);
      sum = multiply_add(load_left(WEIGHTS_PLACE + 2u * k, WEIGHT_STRIDE), values, sum);
    }
    store_sum_stored(record + 4u * chunk, RECORD_VECTORS, scale_sum(sum, 1.0 / WEIGHT_UNIT), lane);
  }
}
