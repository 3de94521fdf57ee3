// Functions whose error does not depend on the device: WGSL allows e^x an error of 3 + 2 |x| units in the last place, a quotient 2.5, and an inverse square root 2.
#include "lib/exactSum.wgsl"

// e^x as 1 + t scaled by a power of two, for x in [-87, 88]: about 1e-9 of the result as hi + lo.
fn exact_exp(x: vec4<f32>) -> ExactSum {
  let k = round(x * 1.44269504);
  // ln 2 in two parts, the first of 9 bits, so that its product with k is exact.
  let r = settled(x - k * 0.693359375) + k * 2.12194440e-4;
  let lost = settled(settled(x - k * 0.693359375) - r) + k * 2.12194440e-4;
  // The series of (e^r - 1 - r) / r^2 to r^5, for |r| up to 0.35.
  let series = 0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.008333334 + r * (0.0013888889 + r * (1.9841270e-4 + r * 2.4801588e-5)))));
  let scale = bitcast<vec4<f32>>(vec4<u32>(vec4<i32>(k) + vec4<i32>(127)) << vec4<u32>(23u));
  var sum = ExactSum(vec4<f32>(1.0), lost);
  sum = exact_add(sum, r, vec4<f32>(0.0));
  sum = exact_add(sum, r * r * series, vec4<f32>(0.0));
  return ExactSum(sum.hi * scale, sum.lo * scale);
}

// a / b, b being hi + lo.
fn exact_quotient(a: vec4<f32>, b: ExactSum) -> vec4<f32> {
  let rough = a / b.hi;
  let left = exact_add_products(ExactSum(a, vec4<f32>(0.0)), -rough, b.hi);
  return rough + (left.hi + left.lo - rough * b.lo) / b.hi;
}

// 1 / sqrt(x), x being hi + lo.
fn exact_inverse_sqrt(x: ExactSum) -> vec4<f32> {
  let rough = inverseSqrt(x.hi);
  let zero = vec4<f32>(0.0);
  let square = exact_add_products(ExactSum(zero, zero), rough, rough);
  // 1 - x * rough^2
  var left = exact_add_products(ExactSum(vec4<f32>(1.0), zero), -x.hi, settled(square.hi));
  left.lo -= x.hi * square.lo + x.lo * square.hi;
  return rough + rough * 0.5 * (left.hi + left.lo);
}

// g / (1 + e^-g). Further below -80 the result is too small to matter.
fn precise_silu(gate: vec4<f32>) -> vec4<f32> {
  let e = exact_exp(clamp(-gate, vec4<f32>(-80.0), vec4<f32>(80.0)));
  let denominator = exact_add(ExactSum(vec4<f32>(1.0), e.lo), e.hi, vec4<f32>(0.0));
  return exact_quotient(gate, denominator);
}
