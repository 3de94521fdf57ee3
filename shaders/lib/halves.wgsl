// Numbers as sums of two f16 numbers, for products by subgroup matrices: of a number times a power of two, `rounded` and the rest.

// To the 11 bits that f16 has, where it is not subnormal. By bits: compilers drop conversions to f16 and back.
fn rounded(value: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(value) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}

// The biased exponent of the power of two that brings `largest` to between 4096 and 8192; of 2^24 at most, since sums must stay in range as well.
fn halves_exponent(largest: f32) -> u32 {
  return min(266u - (bitcast<u32>(largest) >> 23u), 151u);
}

fn power_of_two(exponent: u32) -> f32 {
  return bitcast<f32>(exponent << 23u);
}
