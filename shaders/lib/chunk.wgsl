// Decoding of a chunk, 16 weights of a row, apart from where it comes from: see lib/weights.wgsl and lib/expert_pages.wgsl.
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

fn bf16_chunk(a: vec4<u32>, b: vec4<u32>) -> array<vec4<f32>, 4> {
  return array<vec4<f32>, 4>(
    vec4<f32>(bf16_pair(a.x), bf16_pair(a.y)), vec4<f32>(bf16_pair(a.z), bf16_pair(a.w)),
    vec4<f32>(bf16_pair(b.x), bf16_pair(b.y)), vec4<f32>(bf16_pair(b.z), bf16_pair(b.w)));
}

fn f16_chunk(a: vec4<u32>, b: vec4<u32>) -> array<vec4<f32>, 4> {
  return array<vec4<f32>, 4>(
    vec4<f32>(unpack2x16float(a.x), unpack2x16float(a.y)), vec4<f32>(unpack2x16float(a.z), unpack2x16float(a.w)),
    vec4<f32>(unpack2x16float(b.x), unpack2x16float(b.y)), vec4<f32>(unpack2x16float(b.z), unpack2x16float(b.w)));
}

fn f32_chunk(a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32>) -> array<vec4<f32>, 4> {
  return array<vec4<f32>, 4>(bitcast<vec4<f32>>(a), bitcast<vec4<f32>>(b), bitcast<vec4<f32>>(c), bitcast<vec4<f32>>(d));
}

// The 16 weights of a chunk, in order, without WEIGHT_FACTOR.
fn decode_chunk(words: array<vec4<u32>, VECTORS_PER_CHUNK>) -> array<vec4<f32>, 4> {
#if WEIGHT_FORMAT == fp8
  let a = words[0];
  return array<vec4<f32>, 4>(fp8_decode4(a.x), fp8_decode4(a.y), fp8_decode4(a.z), fp8_decode4(a.w));
#endif
#if WEIGHT_FORMAT == bf16
  return bf16_chunk(words[0], words[1]);
#endif
#if WEIGHT_FORMAT == f16
  return f16_chunk(words[0], words[1]);
#endif
#if WEIGHT_FORMAT == f32
  return f32_chunk(words[0], words[1], words[2], words[3]);
#endif
}
