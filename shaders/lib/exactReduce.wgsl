// Exact sums over a workgroup of WORKGROUP (a multiple of 8) invocations. Every invocation gets the result. Must be reached in uniform control flow.
#include "lib/exactSum.wgsl"

var<workgroup> exact_hi: array<vec4<f32>, WORKGROUP>;
var<workgroup> exact_lo: array<vec4<f32>, WORKGROUP>;

// Two levels, as in lib/reduce.wgsl.
fn exact_workgroup_sum(value: ExactSum, local: u32) -> ExactSum {
  exact_hi[local] = value.hi;
  exact_lo[local] = value.lo;
  workgroupBarrier();
  var sum = value;
  if (local < WORKGROUP / 8u) {
    for (var i = 1u; i < 8u; i++) {
      let other = local + i * (WORKGROUP / 8u);
      sum = exact_add(sum, exact_hi[other], exact_lo[other]);
    }
  }
  workgroupBarrier();
  if (local < WORKGROUP / 8u) {
    exact_hi[local] = sum.hi;
    exact_lo[local] = sum.lo;
  }
  workgroupBarrier();
  var total = ExactSum(exact_hi[0], exact_lo[0]);
  for (var i = 1u; i < WORKGROUP / 8u; i++) {
    total = exact_add(total, exact_hi[i], exact_lo[i]);
  }
  workgroupBarrier();
  return total;
}
