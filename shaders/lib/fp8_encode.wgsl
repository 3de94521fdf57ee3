// f32 to e4m3 as IEEE f32 arithmetic does it: x / s rounded to nearest, then the nearest code, ties to even, saturating at 448; although WGSL's division may be off
// by 2.5 units in the last place. (What `(x / s).to(float8_e4m3fn)` gives in PyTorch after clamping.)
//
// s comes from an integer division. A rough quotient picks the code below, and integers decide which side of the midpoint to the next code it is: a midpoint is
// M * 2^k, M of 5 bits, so M times the significand of s is exact in 32 bits, and so is the difference to |x|. A quotient so near to a midpoint that f32 would have
// rounded it there counts as a tie.

// amax / 448, rounded to nearest: the bits of s. amax must be large enough for s to be a normal number, 1e-35 is.
fn fp8_scale_bits(amax: f32) -> u32 {
  let bits = bitcast<u32>(amax);
  let significand = (bits & 0x7fffffu) | 0x800000u;
  // 448 is 7 * 2^6. A quotient by 7 needs 2 or 3 bits more to be of 24 bits.
  let shift = select(3u, 2u, (significand << 2u) >= (7u << 23u));
  let numerator = significand << shift;
  let quotient = numerator / 7u + select(0u, 1u, numerator % 7u >= 4u);
  // The exponent is that of amax - 6 - shift; adding rather than joining carries a quotient of 2^24 over.
  return (((bits >> 23u) - 7u - shift) << 23u) + quotient;
}

// The code, without its sign, of magnitude / scale. Neither is negative, and scale is a normal number.
fn fp8_encode(magnitude: f32, scale: f32) -> u32 {
  let value_bits = bitcast<u32>(magnitude);
  let bits = bitcast<u32>(scale);
  let rough = min(magnitude / scale, 448.0);
  // The code below: of a normal the bits themselves, rebased; of a subnormal (under 2^-6) the multiple of 2^-9.
  var code = u32(rough * 512.0);
  if (rough >= 0.015625) {
    code = (bitcast<u32>(rough) >> 20u) - (120u << 3u);
  }
  // The midpoint to the next code, m * 2^k with m of 5 bits.
  var m = 17u + 2u * (code & 7u);
  var k = i32(code >> 3u) - 11;
  if (code < 8u) {
    let zeros = countLeadingZeros(2u * code + 1u) - 27u;
    m = (2u * code + 1u) << zeros;
    k = -10 - i32(zeros);
  }
  let significand = (bits & 0x7fffffu) | 0x800000u;
  let product = i32(m * significand);
  // |x| in the same unit. Far below the midpoint (a negative shift) it need not be exact, nor can it be far above.
  let shift = i32(value_bits >> 23u) - i32(bits >> 23u) - k;
  var difference = -product;
  if (shift >= 0) {
    difference = i32(((value_bits & 0x7fffffu) | 0x800000u) << min(u32(shift), 7u)) - product;
  }
  // Half a unit in the last place of an f32 quotient, in that unit: significand * 2^-20, below a power of two half of that.
  let half_unit = i32(significand >> select(20u, 21u, m == 16u && difference < 0));
  let tie = abs(difference) <= half_unit;
  code += select(select(0u, 1u, difference > 0), code & 1u, tie);
  return min(code, 0x7eu);
}
