// Four columns of a row of weights, as stored: for kernels whose neighbouring invocations have neighbouring columns. Constants: those of lib/chunk.wgsl; WORDS, the bytes of a weight.
#include "lib/chunk.wgsl"

#if WORDS == 1
alias Stored = u32;

fn decoded(words: Stored) -> vec4<f32> {
  return fp8_decode4(words);
}
#endif
#if WORDS == 2
alias Stored = vec2<u32>;

fn decoded(words: Stored) -> vec4<f32> {
#if WEIGHT_FORMAT == bf16
  return vec4<f32>(bf16_pair(words.x), bf16_pair(words.y));
#else
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
#endif
}
#endif
#if WORDS == 4
alias Stored = vec4<u32>;

fn decoded(words: Stored) -> vec4<f32> {
  return bitcast<vec4<f32>>(words);
}
#endif
