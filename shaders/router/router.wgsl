// Chooses each token's experts and their weights (DeepSeek-V3 inference/model.py, class Gate; "noaux_tc" and the V2 methods).
//
// logits  [tokens, LOGITS_STRIDE] f32, columns 0 .. EXPERTS
// bias    [EXPERTS] f32, with BIAS: is added for choosing only, never in the weights
// routing [tokens, SLOTS] of (expert, weight as f32 bits): TOP_K by falling biased score, then SHARED_SLOTS further experts EXPERTS, EXPERTS + 1, ... of
//         weight 1
//
// Dispatch: a workgroup of WORKGROUP for each token; rows beyond the batch's count are left as they are.
// SCORE = sigmoid | softmax over all experts. GROUPED: the TOPK_GROUP groups with the best scores compete, the others are at -inf; a group's score is
// GROUP_SCORE = top2sum, the sum of its two best biased scores, or max. Weights are the unbiased scores, with NORMALIZED divided by their sum + 1e-20,
// times SCALING.
// Numerics: f32. Scores are ranked by counting how many go before, so that every rank is taken once whatever the numbers are, NaN included; the lower
// index wins ties, among groups too.
#include "lib/batch.wgsl"

const SLOTS: u32 = TOP_K + SHARED_SLOTS;
const LOWEST: f32 = -3.4028234663852886e38;

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> routing: array<vec2<u32>>;
#if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
#endif

var<workgroup> scores: array<f32, EXPERTS>;
// What experts are chosen by.
var<workgroup> choices: array<f32, EXPERTS>;
var<workgroup> keys: array<u32, EXPERTS>;
var<workgroup> chosen: array<u32, TOP_K>;
#if GROUPED
var<workgroup> group_keys: array<u32, GROUPS>;
#endif
#if SCORE == softmax
var<workgroup> partial: array<f32, WORKGROUP>;
#endif

fn choose_by(expert: u32, score: f32) {
  scores[expert] = score;
#if BIAS
  choices[expert] = score + bias[expert];
#else
  choices[expert] = score;
#endif
}

// Orders like the numbers do; -0 equals 0.
fn order_key(value: f32) -> u32 {
  let bits = bitcast<u32>(select(value, 0.0, value == 0.0));
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  let base = token * LOGITS_STRIDE;
#if SCORE == softmax
  var highest = LOWEST;
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    highest = max(highest, logits[base + e]);
  }
  partial[local] = highest;
  workgroupBarrier();
  for (var i = 0u; i < WORKGROUP; i++) {
    highest = max(highest, partial[i]);
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    let power = exp(logits[base + e] - highest);
    scores[e] = power;
    sum += power;
  }
  partial[local] = sum;
  workgroupBarrier();
  sum = 0.0;
  for (var i = 0u; i < WORKGROUP; i++) {
    sum += partial[i];
  }
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    choose_by(e, scores[e] / sum);
  }
#else
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    choose_by(e, 1.0 / (1.0 + exp(-logits[base + e])));
  }
#endif
  workgroupBarrier();

#if GROUPED
  for (var g = local; g < GROUPS; g += WORKGROUP) {
    var best = LOWEST;
    var second = LOWEST;
    for (var i = 0u; i < EXPERTS / GROUPS; i++) {
      let value = choices[g * (EXPERTS / GROUPS) + i];
      second = max(second, min(best, value));
      best = max(best, value);
    }
#if GROUP_SCORE == top2sum
    if (EXPERTS / GROUPS > 1u) {
      best += second;
    }
#endif
    group_keys[g] = order_key(best);
  }
  workgroupBarrier();
#endif
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    var key = order_key(choices[e]);
#if GROUPED
    let mine = e / (EXPERTS / GROUPS);
    let mine_key = group_keys[mine];
    var ahead = 0u;
    for (var g = 0u; g < GROUPS; g++) {
      ahead += u32(group_keys[g] > mine_key || (group_keys[g] == mine_key && g < mine));
    }
    key = select(0u, key, ahead < TOPK_GROUP);
#endif
    keys[e] = key;
  }
  workgroupBarrier();

  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    let key = keys[e];
    var rank = 0u;
    for (var other = 0u; other < EXPERTS; other++) {
      rank += u32(keys[other] > key || (keys[other] == key && other < e));
    }
    if (rank < TOP_K) {
      chosen[rank] = e;
    }
  }
  workgroupBarrier();

  for (var slot = local; slot < SLOTS; slot += WORKGROUP) {
    var expert = EXPERTS + slot - TOP_K;
    var weight = 1.0;
    if (slot < TOP_K) {
      expert = chosen[slot];
      weight = scores[expert];
#if NORMALIZED
      var total = 0.0;
      for (var i = 0u; i < TOP_K; i++) {
        total += scores[chosen[i]];
      }
      weight /= total + 1e-20;
#endif
      weight *= SCALING;
    }
    routing[token * SLOTS + slot] = vec2<u32>(expert, bitcast<u32>(weight));
  }
}
