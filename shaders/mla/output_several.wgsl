// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj, as mla/output.wgsl has them, for several tokens: each is merged by one workgroup for its head, which
// decodes the weights once for TOKENS of them. What waits for nothing is asked for first, and there is one barrier.
//
// Bindings and result as there; with HALVES out is rows as lib/put_value.wgsl has them, and there is
//   gamma [LATENT, rounded up to 4, zero beyond] f32: of the norm that made what was attended to.
//
// Dispatch: (ceil(VALUE / VALUES), HEADS, ceil(tokens / TOKENS)) workgroups of WORKGROUP, a whole number of subgroups. Teams of VALUE_LANES have a row of weights, and of each lane's chunks of it four
// products at a time. Sums are f32.
//
// Constants, besides shapes: WORKGROUP; VALUES; TOKENS (1, 2 or 4); WORDS (bytes of a weight); VALUE_LANES (a power of two, at least 4, at most a subgroup); VALUE_CHUNKS (ceil(CHUNKS / VALUE_LANES)); VALUE_LOADS
// (VALUE_CHUNKS WORDS); VALUE_ROWS (rows that a team loads at once); VALUE_BLOCKS (blocks of scales that a head's rows lie in, at most); MERGED (ranges whose latents are loaded at once);
// TOUCH (ceil(VALUES / TEAMS) VALUE_CHUNKS, or 0: rows are touched beforehand, not loaded); RANGE_POSITIONS (that each range has, in order: those past a token's position were not written; 0: all were); those of lib/put_value.wgsl, and with HALVES LANES (a subgroup's size), SCALES (how many there are), GAMMA_LOADS and SCALE_LOADS (of either, for a lane).
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"
#include "lib/put_value.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
#if HALVES
@group(0) @binding(3) var<storage, read_write> out: array<f16>;
#else
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#endif
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif
#if HALVES
@group(0) @binding(5) var<storage, read> gamma: array<vec4<f32>>;
#endif

const VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = VECTORS + 1u;
const TEAMS: u32 = WORKGROUP / VALUE_LANES;
const LEAST: f32 = -3e38;

// Merged, [TOKENS, VECTORS].
var<workgroup> latents: array<vec4<f32>, TOKENS * VECTORS>;

// A vector of a token's latents, of all ranges. @param record the token's and the head's, of the first range
fn merged(record: u32, vector: u32, ranges_used: u32) -> vec4<f32> {
  var top = LEAST;
  var weight = 0.0;
  var sum = vec4<f32>(0.0);
  for (var first = 0u; first < ranges_used; first += MERGED) {
  var ranges: array<vec4<f32>, MERGED>;
  var vectors: array<vec4<f32>, MERGED>;
#unroll s < MERGED
  let at = record + min(first + s, ranges_used - 1u) * HEADS * RECORD_VECTORS;
  ranges[s] = partial[at + VECTORS];
  vectors[s] = partial[at + vector];
#endunroll
  var largest = top;
#unroll s < MERGED
  largest = max(largest, ranges[s].x);
#endunroll
  let shrink = exp(top - largest);
  weight *= shrink;
  sum *= shrink;
  top = largest;
#unroll s < MERGED
  // The latents of an empty range were not written.
  if (first + s < ranges_used && ranges[s].y > 0.0) {
    let factor = exp(ranges[s].x - top);
    weight += factor * ranges[s].y;
    sum += factor * vectors[s];
  }
#endunroll
  }
  return sum / weight;
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
  let first_token = group.z * TOKENS;
  let count = token_count();
  let head = group.y;
  let lane = local % VALUE_LANES;
  let team = local / VALUE_LANES;
  let first_value = group.x * VALUES;
  let value_row = head * (NOPE + VALUE) + NOPE;
  // Values past the last repeat it, and are not written.
#if TOUCH
  // A word of each 16 bytes that are loaded later, so that they are near by then.
  var touches: array<u32, TOUCH>;
#unroll i < TOUCH
  touches[i] = weights[((value_row + min(first_value + team + i / VALUE_CHUNKS * TEAMS, VALUE - 1u)) * CHUNKS + min(lane + i % VALUE_CHUNKS * VALUE_LANES, CHUNKS - 1u)) * WORDS].x;
#endunroll
#else
  var words: array<vec4<u32>, VALUE_ROWS * VALUE_LOADS>;
#unroll r < VALUE_ROWS
#unroll i < VALUE_LOADS
  words[r * VALUE_LOADS + i] = weights[((value_row + min(first_value + team + r * TEAMS, VALUE - 1u)) * CHUNKS + min(lane + i / WORDS * VALUE_LANES, CHUNKS - 1u)) * WORDS + i % WORDS];
#endunroll
#endunroll
#endif
#if WEIGHT_FORMAT == fp8
  var block_scales: array<f32, VALUE_BLOCKS * VALUE_CHUNKS>;
#unroll b < VALUE_BLOCKS
#unroll i < VALUE_CHUNKS
  block_scales[b * VALUE_CHUNKS + i] = scales[min(value_row / 128u + b, (HEADS * (NOPE + VALUE) - 1u) / 128u) * SCALE_COLUMNS + min(lane + i * VALUE_LANES, CHUNKS - 1u) / 8u];
#endunroll
#endunroll
#endif
#if HALVES
  let lane_of_all = local % LANES;
  var gammas: array<vec4<f32>, GAMMA_LOADS>;
#unroll i < GAMMA_LOADS
  gammas[i] = gamma[min(lane_of_all + i * LANES, (LATENT - 1u) / 4u)];
#endunroll
  var all_scales: array<f32, SCALE_LOADS>;
#unroll i < SCALE_LOADS
  all_scales[i] = scales[min(lane_of_all + i * LANES, SCALES - 1u)];
#endunroll
#endif
  if (first_token >= count) {
    return;
  }
  // Zero, which no compiler knows: loops whose ends it is part of stay loops.
  let nothing = count >> 31u;
  for (var i = local; i < TOKENS * VECTORS + nothing; i += WORKGROUP) {
    let token = min(first_token + i / VECTORS, count - 1u);
#if RANGE_POSITIONS
    let ranges_used = min(token_position(token) / RANGE_POSITIONS + 1u, SPLITS);
#else
    let ranges_used = SPLITS;
#endif
    latents[i] = merged((token * SPLITS * HEADS + head) * RECORD_VECTORS, i % VECTORS, ranges_used);
  }
  var power = 1.0;
#if HALVES
  var most_gamma = vec4<f32>(0.0);
#unroll i < GAMMA_LOADS
  most_gamma = max(most_gamma, abs(gammas[i]));
#endunroll
  var most_scale = 0.0;
#unroll i < SCALE_LOADS
  most_scale = max(most_scale, abs(all_scales[i]));
#endunroll
  let exponent = out_exponent(subgroupMax(most_scale), subgroupMax(max(max(most_gamma.x, most_gamma.y), max(most_gamma.z, most_gamma.w))));
  power = bitcast<f32>(exponent << 23u);
  if (head == 0u && group.x == 0u && local < TOKENS && first_token + local < count) {
    put_power(first_token + local, exponent);
  }
#endif
  workgroupBarrier();
  var its_row = value_row;
#if TOUCH
  var touched = 0u;
#unroll i < TOUCH
  touched |= touches[i];
#endunroll
  its_row += touched & nothing;
  var words: array<vec4<u32>, VALUE_ROWS * VALUE_LOADS>;
#endif

  var latent: array<vec4<f32>, 4 * VALUE_CHUNKS * TOKENS>;
#unroll t < TOKENS
#unroll i < VALUE_CHUNKS
#unroll j < 4
  latent[(t * VALUE_CHUNKS + i) * 4u + j] = latents[t * VECTORS + min(lane + i * VALUE_LANES, CHUNKS - 1u) * 4u + j];
#endunroll
#endunroll
#endunroll
  for (var first = 0u; first < VALUES + nothing; first += TEAMS * VALUE_ROWS) {
    if (first > 0u || TOUCH > 0u) {
#unroll r < VALUE_ROWS
#unroll i < VALUE_LOADS
      words[r * VALUE_LOADS + i] = weights[((its_row + min(first_value + first + team + r * TEAMS, VALUE - 1u)) * CHUNKS + min(lane + i / WORDS * VALUE_LANES, CHUNKS - 1u)) * WORDS + i % WORDS];
#endunroll
#endunroll
    }
    // Four sums at a time, of as many rows as it takes.
    var sums = vec4<f32>(0.0);
#unroll r < VALUE_ROWS
    let value = first_value + first + team + r * TEAMS;
#unroll i < VALUE_CHUNKS
    let chunk = lane + i * VALUE_LANES;
    var chunk_words: array<vec4<u32>, WORDS>;
#unroll w < WORDS
    chunk_words[w] = words[r * VALUE_LOADS + i * WORDS + w];
#endunroll
    let v = decode_chunk(chunk_words);
    var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    var scale = block_scales[i];
#unroll b < VALUE_BLOCKS
    if (b > 0u) {
      scale = select(scale, block_scales[b * VALUE_CHUNKS + i], (value_row + value) / 128u == value_row / 128u + b);
    }
#endunroll
    factor *= scale;
#endif
    factor = select(0.0, factor, chunk < CHUNKS);
#unroll t < TOKENS
    let l = (t * VALUE_CHUNKS + i) * 4u;
    sums[(r * TOKENS + t) % 4u] += factor * (dot(v[0], latent[l]) + dot(v[1], latent[l + 1u]) + dot(v[2], latent[l + 2u]) + dot(v[3], latent[l + 3u]));
#endunroll
#endunroll
    if ((r + 1u) * TOKENS % 4u == 0u || r + 1u == VALUE_ROWS) {
      let sum = team_sums(sums, lane);
      let place = (r * TOKENS + TOKENS - 1u) / 4u * 4u + lane;
      let its = first_token + place % TOKENS;
      let its_value = first_value + first + team + place / TOKENS * TEAMS;
      if (lane < 4u && place < VALUE_ROWS * TOKENS && its_value < min(first_value + VALUES, VALUE) && its < count) {
        put_value(its, head * VALUE + its_value, sum, power);
      }
      sums = vec4<f32>(0.0);
    }
#endunroll
  }
}
