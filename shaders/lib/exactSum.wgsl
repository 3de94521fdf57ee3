// Sums of products to twice the precision of f32: hi + lo, whatever the order and the device. A result rounded to f32 at the end is, but for one in some thousands, the
// f32 nearest to the true sum (T. J. Dekker, "A floating-point technique for extending the available precision", Numer. Math. 18, 1971; D. E. Knuth, TAOCP 2, 4.2.2).
//
// WGSL lets a compiler take (a + b) - a for b, and Mesa's does. `settled` hides a value's origin from it: no float but a NaN has bits above 0xfffffffe, so the minimum
// changes nothing, and no compiler that reasons about floats looks through an integer operation. Fused multiply-adds are harmless: the products that count are exact.

struct ExactSum {
  hi: vec4<f32>,
  lo: vec4<f32>,
}

fn settled(value: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(min(bitcast<vec4<u32>>(value), vec4<u32>(0xfffffffeu)));
}

// The upper 12 bits of the significand: products of two such are exact, and so is what is left of the value.
fn upper(value: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(value) & vec4<u32>(0xfffff000u));
}

// sum + (value + rest), where rest is small beside value.
fn exact_add(sum: ExactSum, value: vec4<f32>, rest: vec4<f32>) -> ExactSum {
  let total = settled(sum.hi + value);
  let arrived = settled(total - sum.hi);
  let lost = settled(sum.hi - settled(total - arrived)) + settled(value - arrived);
  return ExactSum(total, sum.lo + (lost + rest));
}

// sum + a * b, by components.
fn exact_add_products(sum: ExactSum, a: vec4<f32>, b: vec4<f32>) -> ExactSum {
  let a_upper = upper(a);
  let b_upper = upper(b);
  return exact_add(sum, a_upper * b_upper, a_upper * (b - b_upper) + (a - a_upper) * b);
}

// sum + part * factor.
fn exact_add_scaled(sum: ExactSum, part: ExactSum, factor: vec4<f32>) -> ExactSum {
  let part_upper = upper(part.hi);
  let factor_upper = upper(factor);
  return exact_add(sum, part_upper * factor_upper, part_upper * (factor - factor_upper) + (part.hi - part_upper) * factor + part.lo * factor);
}

// The sums over the four components of each.
fn exact_across(a: ExactSum, b: ExactSum, c: ExactSum, d: ExactSum) -> ExactSum {
  var sum = ExactSum(vec4<f32>(a.hi.x, b.hi.x, c.hi.x, d.hi.x), vec4<f32>(a.lo.x, b.lo.x, c.lo.x, d.lo.x));
  sum = exact_add(sum, vec4<f32>(a.hi.y, b.hi.y, c.hi.y, d.hi.y), vec4<f32>(a.lo.y, b.lo.y, c.lo.y, d.lo.y));
  sum = exact_add(sum, vec4<f32>(a.hi.z, b.hi.z, c.hi.z, d.hi.z), vec4<f32>(a.lo.z, b.lo.z, c.lo.z, d.lo.z));
  return exact_add(sum, vec4<f32>(a.hi.w, b.hi.w, c.hi.w, d.hi.w), vec4<f32>(a.lo.w, b.lo.w, c.lo.w, d.lo.w));
}

// The same sum, lo no more than half a unit in hi's last place. Products leave 12 bits in lo.
fn normalized(sum: ExactSum) -> ExactSum {
  let hi = settled(sum.hi + sum.lo);
  return ExactSum(hi, sum.lo - settled(hi - sum.hi));
}

fn rounded(sum: ExactSum) -> vec4<f32> {
  return sum.hi + sum.lo;
}
