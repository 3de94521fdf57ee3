// The log-probability of every chosen token, and the TOP likeliest tokens with theirs: of the model's own logits, before anything that sampling does to them.
//
// logits    [rows, ROW_VECTORS] vec4 of f32 bits, of which VOCAB columns count. NaN counts as minus infinity
// batch     (lib/batch.wgsl)
// ring      [.., RING_ROWS] u32 as sample/tiles.wgsl leaves it
// logprobs  [.., RING_ROWS, 1 + 2 TOP] u32: row ring_row() gets for each output f32 bits of the chosen token's, TOP tokens, f32 bits of theirs. Token 0xffffffff: there are
//           no further ones of a probability above 0
//
// No log-probability is below LOWEST. Among equals the lower token is the likelier.
//
// Dispatch: one workgroup of 256 a row, which goes 2 + TOP times over it.
#include "lib/batch.wgsl"
#include "lib/order.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read> ring: array<u32>;
@group(0) @binding(3) var<storage, read_write> logprobs: array<u32>;

const VECTORS: u32 = (VOCAB + 3u) / 4u;
// What OpenAI's API gives for tokens of no probability to speak of; JSON has no infinity.
const LOWEST: f32 = -9999.0;

// Ordered by key downwards, then token upwards.
struct Ranked {
  key: u32,
  token: u32,
}

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_inverse: atomic<u32>;
var<workgroup> found: Ranked;
var<workgroup> sums: array<f32, 256>;

// The first after `last`; key 0 if there is none. To be called by all invocations.
fn next_after(row: u32, local: u32, last: Ranked) -> Ranked {
  if (local == 0u) {
    atomicStore(&best_key, 0u);
    atomicStore(&best_inverse, 0u);
  }
  workgroupBarrier();
  var mine = Ranked(0u, 0xffffffffu);
  for (var vector = local; vector < VECTORS; vector += 256u) {
    let bits = logits[row * ROW_VECTORS + vector];
    for (var c = 0u; c < 4u; c++) {
      let token = vector * 4u + c;
      let key = order_key(bits[c]);
      let after = key < last.key || (key == last.key && token > last.token);
      if (token < VOCAB && after && key > KEY_MINUS_INFINITY && key > mine.key) {
        mine = Ranked(key, token);
      }
    }
  }
  atomicMax(&best_key, mine.key);
  workgroupBarrier();
  if (mine.key == atomicLoad(&best_key)) {
    atomicMax(&best_inverse, ~mine.token);
  }
  workgroupBarrier();
  if (local == 0u) {
    found = Ranked(atomicLoad(&best_key), ~atomicLoad(&best_inverse));
  }
  return workgroupUniformLoad(&found);
}

// f32 bits of the log-probability of a logit of this key, where `log_sum` is the logarithm of the sum of exp(logit - largest).
fn logprob(key: u32, largest: f32, log_sum: f32) -> u32 {
  // Minus infinity minus minus infinity, where no token has any probability, would be no number.
  let value = max(key_value(max(key, KEY_MINUS_INFINITY)) - largest - log_sum, LOWEST);
  return bitcast<u32>(select(LOWEST, value, key > KEY_MINUS_INFINITY));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.x;
  let first = next_after(row, local, Ranked(0xffffffffu, 0u));
  let largest = key_value(max(first.key, KEY_MINUS_INFINITY));
  var sum = 0.0;
  for (var vector = local; vector < VECTORS; vector += 256u) {
    let bits = logits[row * ROW_VECTORS + vector];
    for (var c = 0u; c < 4u; c++) {
      let key = order_key(bits[c]);
      if (vector * 4u + c < VOCAB && key > KEY_MINUS_INFINITY) {
        sum += exp(max(key_value(key) - largest, -1e30));
      }
    }
  }
  sums[local] = sum;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half >>= 1u) {
    if (local < half) {
      sums[local] += sums[local + half];
    }
    workgroupBarrier();
  }
  let log_sum = log(max(sums[0], 1.0));
  let base = (ring_row() * RING_ROWS + row) * (1u + 2u * TOP);
  if (local == 0u) {
    let token = min(ring[ring_row() * RING_ROWS + row], VOCAB - 1u);
    let key = order_key(logits[row * ROW_VECTORS + token / 4u][token % 4u]);
    logprobs[base] = logprob(key, largest, log_sum);
  }
  var last = first;
  for (var rank = 0u; rank < TOP; rank++) {
    if (rank > 0u) {
      last = next_after(row, local, last);
    }
    if (local == 0u) {
      logprobs[base + 1u + rank] = last.token;
      logprobs[base + 1u + TOP + rank] = logprob(last.key, largest, log_sum);
    }
  }
}
