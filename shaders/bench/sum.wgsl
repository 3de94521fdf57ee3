// sums[workgroup] = the sum of the words that the workgroup reads, modulo 2^32: as plain a use of memory as reading alone can be.
//
// source [VECTORS] vectors of 16 bytes; sums [workgroups] u32
// Dispatch: any number of workgroups of 256; each invocation strides over the whole.
@group(0) @binding(0) var<storage, read> source: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

var<workgroup> total: atomic<u32>;

@compute @workgroup_size(256)
fn main(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  var sum = vec4<u32>(0u);
  for (var i = id.x; i < VECTORS; i += groups.x * 256u) {
    sum += source[i];
  }
  atomicAdd(&total, sum.x + sum.y + sum.z + sum.w);
  workgroupBarrier();
  if (local == 0u) {
    sums[group.x] = atomicLoad(&total);
  }
}
