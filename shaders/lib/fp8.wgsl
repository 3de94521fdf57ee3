// e4m3 ("fn" flavour: no infinities, 0x7f and 0xff are NaN) to f32, four codes of a little-endian word at a time.
//
// The results carry a factor FP8_FACTOR that callers fold into the block scale: `unpack` shifts a code's exponent and mantissa into those of an f16,
// whose bias is larger by 8, so that every value comes out times 2^-8, exactly. `select` rebuilds the f32 and needs no factor.
// NaN codes are rejected when weights are loaded; here `unpack` reads them as +-480 and `select` as +-480 too.
// Constants: FP8_DECODE = "unpack" | "select". Which one a device gets right is found at its start (shaders/selftest/fp8.wgsl).

#if FP8_DECODE == unpack
const FP8_FACTOR: f32 = 256.0;

fn fp8_decode4(word: u32) -> vec4<f32> {
  let odd = (word & 0x80008000u) | ((word & 0x7f007f00u) >> 1u);
  let even = ((word << 8u) & 0x80008000u) | ((word << 7u) & 0x3f803f80u);
  let a = unpack2x16float(even);
  let b = unpack2x16float(odd);
  return vec4<f32>(a.x, b.x, a.y, b.y);
}
#else
const FP8_FACTOR: f32 = 1.0;

fn fp8_decode4(word: u32) -> vec4<f32> {
  let codes = (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(0xffu);
  let sign = (codes & vec4<u32>(0x80u)) << vec4<u32>(24u);
  let magnitude = codes & vec4<u32>(0x7fu);
  let normal = (magnitude << vec4<u32>(20u)) + vec4<u32>(120u << 23u);
  // A subnormal is mantissa * 2^-9; no bits are shifted into place, because some devices flush them.
  let subnormal = bitcast<vec4<u32>>(vec4<f32>(magnitude) * 0.001953125);
  let bits = select(normal, subnormal, magnitude < vec4<u32>(8u));
  return bitcast<vec4<f32>>(bits | sign);
}
#endif
