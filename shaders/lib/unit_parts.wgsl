// Units of a row of weights (lib/unit.wgsl), decoded four weights at a time, and what they are multiplied by.
#include "lib/chunk.wgsl"
#include "lib/unit.wgsl"

fn decode_part(words: Unit, part: u32) -> vec4<f32> {
#if WEIGHT_FORMAT == fp8
#if UNIT_WORDS == 1
  return fp8_decode4(words);
#else
  return fp8_decode4(words[part]);
#endif
#endif
#if WEIGHT_FORMAT == bf16
  return vec4<f32>(bf16_pair(words[part * 2u]), bf16_pair(words[part * 2u + 1u]));
#endif
#if WEIGHT_FORMAT == f16
  return vec4<f32>(unpack2x16float(words[part * 2u]), unpack2x16float(words[part * 2u + 1u]));
#endif
#if WEIGHT_FORMAT == f32
  return bitcast<vec4<f32>>(words);
#endif
}

// sum + w . x as a chain that becomes four fused multiply-adds where the device has them.
fn add_dot(sum: f32, w: vec4<f32>, x: vec4<f32>) -> f32 {
  return sum + w.x * x.x + w.y * x.y + w.z * x.z + w.w * x.w;
}
