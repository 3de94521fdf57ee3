// Decodes all 256 e4m3 codes, for the comparison with the CPU's table at device start.
// Dispatch: 1 workgroup of 64. codes: [64] words holding 0..255. values: [256] f32.
#include "lib/fp8.wgsl"

@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read_write> values: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  values[id.x] = fp8_decode4(codes[id.x]) * FP8_FACTOR;
}
