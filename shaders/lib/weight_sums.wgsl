// Sums of tokens' weights that are exact and in no order: a weight is an integer of 28 bits, kept as (high, low) words of base 2^14, of which neither overflows for up
// to 250000 tokens. Needs what lib/sampling.wgsl needs.
#include "lib/sampling.wgsl"

fn normalized(sum: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(sum.x + (sum.y >> 14u), sum.y & 0x3fffu);
}

fn less(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x < b.x || (a.x == b.x && a.y < b.y);
}

// a - b, for b at most a.
fn minus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let borrow = u32(a.y < b.y);
  return vec2<u32>(a.x - b.x - borrow, a.y + (borrow << 14u) - b.y);
}

// exp((logit - largest) / temperature) in units of 2^-28, truncated; without `by_weight` every token weighs one unit.
fn weight_of(key: u32, by_weight: bool, largest: f32, rate: f32) -> vec2<u32> {
  if (!by_weight) {
    return vec2<u32>(0u, 1u);
  }
  let weight = u32(min(exp(log_weight(key, largest, rate)), 1.0) * 268435456.0);
  return vec2<u32>(weight >> 14u, weight & 0x3fffu);
}

// What the kept tokens have to weigh together: topK tokens, or topP of the total; at least one unit, and no more than there is.
fn wanted_weight(by_weight: bool, top_k: u32, top_p: f32, total: vec2<u32>) -> vec2<u32> {
  var wanted = vec2<u32>(top_k >> 14u, top_k & 0x3fffu);
  if (by_weight) {
    let share = max(top_p, 0.0) * (f32(total.x) * 16384.0 + f32(total.y));
    let share_high = floor(share / 16384.0);
    wanted = normalized(vec2<u32>(u32(share_high), u32(ceil(share - share_high * 16384.0))));
  }
  if (less(wanted, vec2<u32>(0u, 1u))) {
    wanted = vec2<u32>(0u, 1u);
  }
  if (less(total, wanted)) {
    wanted = total;
  }
  return wanted;
}
