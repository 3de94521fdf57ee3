// 1 / sqrt(mean of squares + EPSILON) over a workgroup of WORKGROUP invocations. With EXACT summed exactly, the f32 nearest to the true factor on every device; otherwise
// in f32, which is as good wherever no quantizer follows. Must be reached in uniform control flow.
#if EXACT
#include "lib/exactReduce.wgsl"
#include "lib/precise.wgsl"

alias Squares = ExactSum;

fn no_squares() -> Squares {
  return ExactSum(vec4<f32>(0.0), vec4<f32>(0.0));
}

fn add_squares(sum: Squares, value: vec4<f32>) -> Squares {
  return exact_add_products(sum, value, value);
}

fn rms_factor(squares: Squares, local: u32, count: u32) -> f32 {
  let zero = no_squares();
  let total = exact_workgroup_sum(exact_across(squares, zero, zero, zero), local);
  let mean = exact_quotient(total, ExactSum(vec4<f32>(f32(count)), vec4<f32>(0.0)));
  // What the quotient left, so that the mean is hi + lo.
  let left = exact_add_products(total, -mean, vec4<f32>(f32(count)));
  let exact_mean = exact_add(ExactSum(mean, (left.hi + left.lo) / f32(count)), vec4<f32>(EPSILON), vec4<f32>(0.0));
  return exact_inverse_sqrt(exact_mean).x;
}
#else
#include "lib/reduce.wgsl"

alias Squares = vec4<f32>;

fn no_squares() -> Squares {
  return vec4<f32>(0.0);
}

fn add_squares(sum: Squares, value: vec4<f32>) -> Squares {
  return sum + value * value;
}

fn rms_factor(squares: Squares, local: u32, count: u32) -> f32 {
  let total = workgroup_sum4(squares, local);
  return inverseSqrt((total.x + total.y + total.z + total.w) / f32(count) + EPSILON);
}
#endif
