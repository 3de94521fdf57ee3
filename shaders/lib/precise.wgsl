// Functions whose error does not depend on the device: WGSL allows e^x an error of 3 + 2 |x| units in the last place, a quotient 2.5, and an inverse square root 2.
#include "lib/exactSum.wgsl"

// e^x for x in [-87, 88]: about 2e-9 of the result, as hi + lo.
fn exact_exp(x: vec4<f32>) -> ExactSum {
  let k = round(x * 1.44269504);
  // ln 2 in two parts, the first of 9 bits, so that its product with k is exact.
  let most = settled(x - k * 0.693359375);
  let r = settled(most + k * 2.12194440e-4);
  let lost = settled(most - r) + k * 2.12194440e-4;
  // e^r = 1 + r + r^2 / 2 + r^3 (1 / 6 + r / 24 + ...), for |r| up to 0.35: what follows the square is small enough for f32.
  let series = 0.16666667 + r * (0.041666668 + r * (0.008333334 + r * (0.0013888889 + r * (1.9841270e-4 + r * 2.4801588e-5))));
  let scale = bitcast<vec4<f32>>(vec4<u32>(vec4<i32>(k) + vec4<i32>(127)) << vec4<u32>(23u));
  var sum = ExactSum(vec4<f32>(1.0), lost);
  sum = exact_add(sum, r, vec4<f32>(0.0));
  sum = exact_add_products(sum, r, r * 0.5);
  sum = exact_add(sum, r * r * r * series, lost * r);
  return ExactSum(sum.hi * scale, sum.lo * scale);
}

// numerator / denominator
fn exact_quotient(numerator: ExactSum, denominator: ExactSum) -> vec4<f32> {
  let a = normalized(numerator);
  let b = normalized(denominator);
  let rough = a.hi / b.hi;
  let left = exact_add_products(a, -rough, b.hi);
  return rough + (left.hi + left.lo - rough * b.lo) / b.hi;
}

// 1 / sqrt(x)
fn exact_inverse_sqrt(value: ExactSum) -> vec4<f32> {
  let x = normalized(value);
  let rough = inverseSqrt(x.hi);
  let zero = vec4<f32>(0.0);
  let square = normalized(exact_add_products(ExactSum(zero, zero), rough, rough));
  // 1 - x * rough^2
  var left = exact_add_products(ExactSum(vec4<f32>(1.0), zero), -x.hi, square.hi);
  left.lo -= x.hi * square.lo + x.lo * square.hi;
  return rough + rough * 0.5 * (left.hi + left.lo);
}

// g / (1 + e^-g). Beyond 80 the exponential is nothing beside 1, or the result too small to matter.
fn precise_silu(gate: vec4<f32>) -> vec4<f32> {
  let e = exact_exp(clamp(-gate, vec4<f32>(-80.0), vec4<f32>(80.0)));
  let denominator = exact_add(ExactSum(vec4<f32>(1.0), e.lo), e.hi, vec4<f32>(0.0));
  return exact_quotient(ExactSum(gate, vec4<f32>(0.0)), denominator);
}
