// RMSNorm of rows of the residual stream as rmsNorm.wgsl has it, in the forms that products want: lib/norm_operands.wgsl says how, and what is bound.
//
// Dispatch: one workgroup of WORKGROUP a token.
#include "lib/norm_operands.wgsl"

#if ADD
@group(0) @binding(0) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> out: array<vec4<f32>>;
#else
@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
#endif
@group(0) @binding(3) var<storage, read> gamma: array<vec4<f32>>;
#if PLAIN
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
#endif
#if HALVES
@group(0) @binding(5) var<storage, read_write> halves: array<vec4<u32>>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
  norm_row(group.x, local);
  write_forms(group.x, local);
}
