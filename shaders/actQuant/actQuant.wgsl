// DeepSeek's online activation quantization, in place and as dequantized values: x = e4m3(x / s) * s, s by row and group of 128 columns
// (DeepSeek-V3 inference/kernel.py, act_quant_kernel).
//
// x [rows, STRIDE] f32, columns OFFSET .. OFFSET + 4 VECTORS; columns past the last real one are zero and stay zero
//
// Dispatch: [ceil(groups / 4), rows] workgroups of 64; a group is 16 invocations of 8 columns.
// s = max(amax, 1e-4) / 448, with UE8M0 the next power of two.
//
// Numerics: every code and value is the one that IEEE f32 gives, divisions rounded to nearest, ties of the code to even (lib/fp8_encode.wgsl).
#include "lib/fp8_encode.wgsl"

@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;

var<workgroup> partial: array<f32, 64>;

// max(amax, 1e-4) / 448, rounded to nearest: the bits of s.
fn scale_bits(amax: f32) -> u32 {
  let result = fp8_scale_bits(max(amax, 1e-4));
#if UE8M0
  return (result + 0x7fffffu) & 0x7f800000u;
#else
  return result;
#endif
}

fn quantize(value: f32, scale: f32) -> f32 {
  let code = fp8_encode(abs(value), scale);
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
