// Sums over a workgroup of WORKGROUP invocations, four at a time. Every invocation gets the result. Must be reached in uniform control flow.
// Constants: WORKGROUP, a multiple of 8; SINGLE_SUBGROUP (true: the workgroup is one subgroup, and no barrier is needed).
// With subgroups the including shader's `main` sets `lane_count` and `lane` first (builtins cannot be read outside an entry point).

#if SUBGROUPS
var<private> lane_count: u32;
var<private> lane: u32;
#endif
#if !SINGLE_SUBGROUP
var<workgroup> reduce_partial: array<vec4<f32>, WORKGROUP>;
#endif

fn workgroup_sum4(value: vec4<f32>, local: u32) -> vec4<f32> {
#if SUBGROUPS
  let sum = subgroupAdd(value);
#if SINGLE_SUBGROUP
  return sum;
#else
  if (lane == 0u) {
    reduce_partial[local / lane_count] = sum;
  }
  workgroupBarrier();
  var total = vec4<f32>(0.0);
  let groups = (WORKGROUP + lane_count - 1u) / lane_count;
  for (var i = 0u; i < groups; i++) {
    total += reduce_partial[i];
  }
  workgroupBarrier();
  return total;
#endif
#else
  // Two levels of eight rather than a tree: fewer barriers, which cost more than additions, and far more to compile on software adapters.
  reduce_partial[local] = value;
  workgroupBarrier();
  var sum = vec4<f32>(0.0);
  if (local < WORKGROUP / 8u) {
    for (var i = 0u; i < 8u; i++) {
      sum += reduce_partial[local + i * (WORKGROUP / 8u)];
    }
  }
  workgroupBarrier();
  if (local < WORKGROUP / 8u) {
    reduce_partial[local] = sum;
  }
  workgroupBarrier();
  var total = vec4<f32>(0.0);
  for (var i = 0u; i < WORKGROUP / 8u; i++) {
    total += reduce_partial[i];
  }
  workgroupBarrier();
  return total;
#endif
}
