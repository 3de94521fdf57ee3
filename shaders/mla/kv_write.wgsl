// The keys and values of a step's tokens, into a layer's latent cache: RMSNorm of the latent, rotation of the shared key part.
//
// x           [tokens, X_STRIDE] f32, from column X_OFFSET on: the latent (LATENT), then the key part (ROPE); output of kv_a_proj_with_mqa
// gamma       [LATENT or more] f32
// rope_table  [positions, ROPE / 2] of (cos, sin)
// cache       [blocks, BLOCK_SIZE, CACHE_ROW] in CACHE_FORMAT: x * gamma / sqrt(mean(x^2) + EPSILON), the rotated key part, zeros
//
// Dispatch: a workgroup of WORKGROUP for each token.
// f32 throughout, with EXACT the sum of squares and the rotation exact (lib/exactSum.wgsl); f16 is rounded to at the end, values beyond its range to its largest.
// fp8: the latent in e4m3, 128 columns sharing a scale of max(amax, 1e-30) / 448 (lib/fp8_encode.wgsl), the key part in bf16, to nearest, ties to even. For kvLoraRank 512 the row of
// 656 bytes that FlashMLA and vLLM ("fp8_ds_mla") have.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/rms.wgsl"
#include "lib/kv_values.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
#if CACHE_FORMAT == f32
@group(0) @binding(5) var<storage, read_write> cache: array<vec2<f32>>;
#else
@group(0) @binding(5) var<storage, read_write> cache: array<u32>;
#endif

#if CACHE_FORMAT == fp8
#include "lib/fp8_encode.wgsl"

const LEAST_AMAX: f32 = 1e-30;
// bf16's largest.
const LARGEST: f32 = 3.3895314e38;

// Of each word's four columns.
var<workgroup> largest: array<f32, CODE_WORDS>;

// Four columns of the latent; zeros beyond the last.
fn latents(word: u32, base: u32, factor: f32) -> vec4<f32> {
  var four = vec4<f32>(0.0);
  for (var i = 0u; i < 4u; i++) {
    let column = word * 4u + i;
    if (column < LATENT) {
      four[i] = value_of(column, base, 0u, factor);
    }
  }
  return four;
}

fn codes(values: vec4<f32>, scale: f32) -> u32 {
  let signs = (bitcast<vec4<u32>>(values) >> vec4<u32>(24u)) & vec4<u32>(0x80u);
  let four = abs(values);
  let magnitudes = vec4<u32>(fp8_encode(four.x, scale), fp8_encode(four.y, scale), fp8_encode(four.z, scale), fp8_encode(four.w, scale));
  let bytes = (signs | magnitudes) << vec4<u32>(0u, 8u, 16u, 24u);
  return bytes.x | bytes.y | bytes.z | bytes.w;
}

fn bf16_bits(value: f32) -> u32 {
  let bits = bitcast<u32>(clamp(value, -LARGEST, LARGEST));
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
#if !EXACT
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
#endif
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  let base = token * X_STRIDE + X_OFFSET;
  var squares = no_squares();
  for (var column = local; column < LATENT; column += WORKGROUP) {
    squares = add_squares(squares, vec4<f32>(x[base + column], 0.0, 0.0, 0.0));
  }
  let factor = rms_factor(squares, local, LATENT);
  let position = token_position(token);
  let row = cache_row(token_sequence(token), position);
#if CACHE_FORMAT == fp8
  for (var word = local; word < CODE_WORDS; word += WORKGROUP) {
    let four = abs(latents(word, base, factor));
    largest[word] = max(max(four.x, four.y), max(four.z, four.w));
  }
  workgroupBarrier();
  for (var word = local; word < CODE_WORDS; word += WORKGROUP) {
    let first = word / WORDS_PER_SCALE * WORDS_PER_SCALE;
    var amax = LEAST_AMAX;
    for (var i = first; i < min(first + WORDS_PER_SCALE, CODE_WORDS); i++) {
      amax = max(amax, largest[i]);
    }
    let scale = fp8_scale_bits(min(amax, LARGEST));
    cache[row + word] = codes(latents(word, base, factor), bitcast<f32>(scale));
    if (word == first) {
      cache[row + CODE_WORDS + word / WORDS_PER_SCALE] = scale;
    }
  }
  for (var pair = local; pair < CACHE_ROW - CODE_WORDS - SCALE_WORDS; pair += WORKGROUP) {
    let column = LATENT + pair * 2u;
    let low = bf16_bits(value_of(column, base, position, factor));
    cache[row + CODE_WORDS + SCALE_WORDS + pair] = low | (bf16_bits(value_of(column + 1u, base, position, factor)) << 16u);
  }
#else
  for (var pair = local; pair < CACHE_ROW * 2u; pair += WORKGROUP) {
    let values = vec2<f32>(value_of(pair * 2u, base, position, factor), value_of(pair * 2u + 1u, base, position, factor));
#if CACHE_FORMAT == f16
    cache[row * 2u + pair] = pack2x16float(clamp(values, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
#else
    cache[row * 2u + pair] = values;
#endif
  }
#endif
}
