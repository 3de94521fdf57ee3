// DeepSeek's online activation quantization, in place and as dequantized values: x = e4m3(x / s) * s, s by row and group of 128 columns
// (DeepSeek-V3 inference/kernel.py, act_quant_kernel).
//
// x [rows, STRIDE] f32, columns OFFSET .. OFFSET + 4 VECTORS; columns past the last real one are zero and stay zero
//
// Dispatch: [ceil(groups / 4), rows] workgroups of 64; a group is 16 invocations of 8 columns.
// s = max(amax, 1e-4) / 448, with UE8M0 the next power of two.
//
// Numerics: every code and value is the one that IEEE f32 gives, divisions rounded to nearest, ties of the code to even, although WGSL's division may be off
// by 2.5 units in the last place. s comes from an integer division. A rough quotient picks the code below, and integers decide which side of the midpoint to
// the next code it is: a midpoint is M * 2^k, M of 5 bits, so M times the significand of s is exact in 32 bits, and so is the difference to |x|.
// A quotient so near to a midpoint that f32 would have rounded it there counts as a tie.

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;

var<workgroup> partial: array<f32, 64>;

// floor(max(amax, 1e-4) / 448 * 2^n) for the n that leaves 24 bits, rounded to nearest: the bits of s.
fn scale_bits(amax: f32) -> u32 {
  let bits = bitcast<u32>(max(amax, 1e-4));
  let significand = (bits & 0x7fffffu) | 0x800000u;
  // 448 is 7 * 2^6. A quotient by 7 needs 2 or 3 bits more to be of 24 bits.
  let shift = select(3u, 2u, (significand << 2u) >= (7u << 23u));
  let numerator = significand << shift;
  let quotient = numerator / 7u + select(0u, 1u, numerator % 7u >= 4u);
  // The exponent is that of amax - 6 - shift; adding rather than joining carries a quotient of 2^24 over. No s is subnormal, since amax is at least 1e-4.
  let result = (((bits >> 23u) - 7u - shift) << 23u) + quotient;
#if UE8M0
  return (result + 0x7fffffu) & 0x7f800000u;
#else
  return result;
#endif
}

fn quantize(value: f32, scale: f32) -> f32 {
  let magnitude = abs(value);
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
  code = min(code, 0x7eu);
  let decoded = select(bitcast<f32>((code << 20u) + (120u << 23u)), f32(code) * 0.001953125, code < 8u);
  return select(decoded, -decoded, value < 0.0) * scale;
}

fn quantize4(value: vec4<f32>, scale: f32) -> vec4<f32> {
  return vec4<f32>(quantize(value.x, scale), quantize(value.y, scale), quantize(value.z, scale), quantize(value.w, scale));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let base = (group.y * STRIDE + OFFSET) / 4u;
  // Neighbours hold neighbouring vectors: the first and the second half of a group.
  let first = (group.x * 4u + local / 16u) * 32u + local % 16u;
  let second = first + 16u;
  var low = vec4<f32>(0.0);
  var high = vec4<f32>(0.0);
  if (first < VECTORS) {
    low = x[base + first];
  }
  if (second < VECTORS) {
    high = x[base + second];
  }
  let largest = max(abs(low), abs(high));
  partial[local] = max(max(largest.x, largest.y), max(largest.z, largest.w));
  workgroupBarrier();
  var amax = 0.0;
  for (var i = 0u; i < 16u; i++) {
    amax = max(amax, partial[local / 16u * 16u + i]);
  }
  let scale = bitcast<f32>(scale_bits(amax));
  if (first < VECTORS) {
    x[base + first] = quantize4(low, scale);
  }
  if (second < VECTORS) {
    x[base + second] = quantize4(high, scale);
  }
}
