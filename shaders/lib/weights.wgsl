// Weights as stored in the checkpoint, 16 at a time. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> weights: array<vec4<u32>>;
//
// Constants: WEIGHT_FORMAT = "fp8" | "bf16" | "f16" | "f32"; FP8_DECODE.
// A row is a whole number of 16-element chunks; what lies beyond its last column is zero. A chunk never straddles a 128-column scale block, so that a
// block's scale multiplies f32 partial sums, in DeepSeek's own order (DeepSeek-V3 inference/kernel.py, fp8_gemm_kernel), and never single weights.
#include "lib/fp8.wgsl"

#if WEIGHT_FORMAT == fp8
const VECTORS_PER_CHUNK: u32 = 1u;
// What a chunk's values must be multiplied by, besides the block's scale.
const WEIGHT_FACTOR: f32 = FP8_FACTOR;
#else
const WEIGHT_FACTOR: f32 = 1.0;
#endif
#if WEIGHT_FORMAT == bf16
const VECTORS_PER_CHUNK: u32 = 2u;
#endif
#if WEIGHT_FORMAT == f16
const VECTORS_PER_CHUNK: u32 = 2u;
#endif
#if WEIGHT_FORMAT == f32
const VECTORS_PER_CHUNK: u32 = 4u;
#endif

fn bf16_pair(word: u32) -> vec2<f32> {
  return bitcast<vec2<f32>>(vec2<u32>(word << 16u, word & 0xffff0000u));
}

// The 16 weights of a chunk, in order, without WEIGHT_FACTOR.
fn load_chunk(chunk: u32) -> array<vec4<f32>, 4> {
#if WEIGHT_FORMAT == fp8
  let words = weights[chunk];
  return array<vec4<f32>, 4>(fp8_decode4(words.x), fp8_decode4(words.y), fp8_decode4(words.z), fp8_decode4(words.w));
#endif
#if WEIGHT_FORMAT == bf16
  let a = weights[chunk * 2u];
  let b = weights[chunk * 2u + 1u];
  return array<vec4<f32>, 4>(
    vec4<f32>(bf16_pair(a.x), bf16_pair(a.y)), vec4<f32>(bf16_pair(a.z), bf16_pair(a.w)),
    vec4<f32>(bf16_pair(b.x), bf16_pair(b.y)), vec4<f32>(bf16_pair(b.z), bf16_pair(b.w)));
#endif
#if WEIGHT_FORMAT == f16
  let a = weights[chunk * 2u];
  let b = weights[chunk * 2u + 1u];
  return array<vec4<f32>, 4>(
    vec4<f32>(unpack2x16float(a.x), unpack2x16float(a.y)), vec4<f32>(unpack2x16float(a.z), unpack2x16float(a.w)),
    vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y)), vec4<f32>(unpack2x16float(b.z), unpack2x16float(b.w)));
#endif
#if WEIGHT_FORMAT == f32
  return array<vec4<f32>, 4>(
    bitcast<vec4<f32>>(weights[chunk * 4u]), bitcast<vec4<f32>>(weights[chunk * 4u + 1u]),
    bitcast<vec4<f32>>(weights[chunk * 4u + 2u]), bitcast<vec4<f32>>(weights[chunk * 4u + 3u]));
#endif
}
