// A sequence's sampling parameters, and what a token's logit is worth under them. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> params: array<vec4<u32>>;
//
// Row s of params, four vectors (packages/kernels/src/sample/params.ts): temperature f32, topP f32, topK u32, minP f32; seed low, seed high, what positions of the batch are counted from, unused; repetition, frequency
// and presence penalty f32, whether logits are adjusted; 4 unused.
#include "lib/order.wgsl"

// Below it a row is greedy; above it 1 / temperature times the largest difference is finite.
const MIN_TEMPERATURE: f32 = 1e-6;

fn is_greedy(settings: vec4<u32>) -> bool {
  return !(bitcast<f32>(settings.x) >= MIN_TEMPERATURE);
}

// (logit - largest logit) / temperature: at most 0. `rate` is 1 / temperature.
fn log_weight(key: u32, largest: f32, rate: f32) -> f32 {
  return max(key_value(key) - largest, -1e30) * rate;
}
