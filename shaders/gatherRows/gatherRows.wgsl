// out[i] = x[output_row(i)]: the rows whose logits are wanted.
//
// x   [tokens, X_STRIDE] f32
// out [outputs, OUT_STRIDE] f32, 4 VECTORS columns written
//
// Dispatch: one workgroup of 64 an output. Exact.
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (group.x >= output_count()) {
    return;
  }
  let row = output_row(group.x);
  for (var i = local; i < VECTORS; i += 64u) {
    out[group.x * (OUT_STRIDE / 4u) + i] = x[row * (X_STRIDE / 4u) + i];
  }
}
