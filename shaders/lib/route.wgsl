// A token's choice of experts and their weights, by one workgroup (DeepSeek-V3 inference/model.py, class Gate; "noaux_tc" and the V2 methods).
//
// Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read_write> routing: array<vec2<u32>>;
//   @group(0) @binding(n) var<storage, read> bias: array<f32>;       [EXPERTS], with BIAS: is added for choosing only, never in the weights
//   fn router_logit(token: u32, expert: u32) -> f32                  asked for once each
//
// routing [tokens, SLOTS] of (expert, weight as f32 bits): TOP_K by falling biased score, then SHARED_SLOTS further experts EXPERTS, EXPERTS + 1, ... of weight 1.
//
// SCORE = sigmoid | softmax over all experts. GROUPED: the TOPK_GROUP groups with the best scores compete, of BLOCK experts each; a group's score is
// GROUP_SCORE = top2sum, the sum of its two best biased scores, or max. Weights are the unbiased scores, with NORMALIZED divided by their sum + 1e-20,
// times SCALING.
// Experts are compared in two rounds: with those of their block, of which KEPT are kept, then those with each other. Constants: BLOCK, a group's size where there are
// groups; BLOCKS = ceil(EXPERTS / BLOCK); KEPT, the TOP_K or all of a block, and two where a group is scored by them.
// Numerics: f32. Ranks come from counting how many go before, so that every rank is taken once whatever the numbers are (lib/order.wgsl); the lower index wins ties,
// among groups too.
#include "lib/order.wgsl"

const SLOTS: u32 = TOP_K + SHARED_SLOTS;
const LOWEST: f32 = -3.4028234663852886e38;
// Numbers that are compared between two tests of a loop.
const STRETCH: u32 = 8u;
const BLOCK_ROOM: u32 = (BLOCK + STRETCH - 1u) / STRETCH * STRETCH;
const CANDIDATES: u32 = BLOCKS * KEPT;
const CANDIDATE_ROOM: u32 = (CANDIDATES + STRETCH - 1u) / STRETCH * STRETCH;

// What no expert is at stays 0, as workgroup memory begins: below the key of any number.
var<workgroup> scores: array<f32, EXPERTS>;
var<workgroup> keys: array<u32, BLOCKS * BLOCK_ROOM>;
var<workgroup> best_keys: array<u32, CANDIDATE_ROOM>;
var<workgroup> best_experts: array<u32, CANDIDATES>;
var<workgroup> chosen: array<u32, TOP_K>;
#if GROUPED
const GROUP_ROOM: u32 = (BLOCKS + STRETCH - 1u) / STRETCH * STRETCH;
var<workgroup> group_keys: array<u32, GROUP_ROOM>;
#endif
#if SCORE == softmax
const RUN: u32 = 16u;
const RUNS: u32 = (EXPERTS + RUN - 1u) / RUN;
var<workgroup> of_run: array<f32, RUNS>;
#endif

fn goes_before(other_key: u32, other: u32, key: u32, mine: u32) -> u32 {
  return u32((other_key > key) | ((other_key == key) & (other < mine)));
}

#if SCORE == softmax
// scores = softmax(scores).
fn to_softmax(local: u32) {
  for (var run = local; run < RUNS; run += WORKGROUP) {
    var highest = LOWEST;
#unroll i < 16
    highest = max(highest, scores[min(run * RUN + i, EXPERTS - 1u)]);
#endunroll
    of_run[run] = highest;
  }
  workgroupBarrier();
  var highest = LOWEST;
  for (var run = 0u; run < RUNS; run++) {
    highest = max(highest, of_run[run]);
  }
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    scores[e] = exp(scores[e] - highest);
  }
  workgroupBarrier();
  for (var run = local; run < RUNS; run += WORKGROUP) {
    var sum = 0.0;
#unroll i < 16
    sum += select(0.0, scores[min(run * RUN + i, EXPERTS - 1u)], run * RUN + i < EXPERTS);
#endunroll
    of_run[run] = sum;
  }
  workgroupBarrier();
  var sum = 0.0;
  for (var run = 0u; run < RUNS; run++) {
    sum += of_run[run];
  }
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    scores[e] /= sum;
  }
}
#endif

// Leaves what is chosen, and the scores, in workgroup memory for all of the workgroup. Must be reached in uniform control flow, once by a workgroup.
fn choose(token: u32, local: u32) {
#if SCORE == softmax
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    scores[e] = router_logit(token, e);
  }
  workgroupBarrier();
  to_softmax(local);
#else
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    scores[e] = 1.0 / (1.0 + exp(-router_logit(token, e)));
  }
#endif
  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    var choice = scores[e];
#if BIAS
    choice += bias[e];
#endif
    keys[e / BLOCK * BLOCK_ROOM + e % BLOCK] = order_key(bitcast<u32>(choice));
  }
  workgroupBarrier();

  for (var e = local; e < EXPERTS; e += WORKGROUP) {
    let first = e / BLOCK * BLOCK_ROOM;
    let mine = e % BLOCK;
    let key = keys[first + mine];
    var rank = 0u;
    for (var start = 0u; start < BLOCK_ROOM; start += STRETCH) {
#unroll i < 8
      rank += goes_before(keys[first + start + i], start + i, key, mine);
#endunroll
    }
    if (rank < KEPT) {
      best_keys[e / BLOCK * KEPT + rank] = key;
      best_experts[e / BLOCK * KEPT + rank] = e;
    }
  }
  workgroupBarrier();

#if GROUPED
  for (var g = local; g < BLOCKS; g += WORKGROUP) {
    var score = key_value(best_keys[g * KEPT]);
#if GROUP_SCORE == top2sum
    if (BLOCK > 1u) {
      score += key_value(best_keys[g * KEPT + min(1u, KEPT - 1u)]);
    }
#endif
    group_keys[g] = order_key(bitcast<u32>(score));
  }
  workgroupBarrier();
  for (var c = local; c < CANDIDATES; c += WORKGROUP) {
    let mine = c / KEPT;
    let key = group_keys[mine];
    var rank = 0u;
    for (var start = 0u; start < GROUP_ROOM; start += STRETCH) {
#unroll i < 8
      rank += goes_before(group_keys[start + i], start + i, key, mine);
#endunroll
    }
    if (rank >= TOPK_GROUP) {
      best_keys[c] = 0u;
    }
  }
  workgroupBarrier();
#endif
  // Candidates with equal keys lie in the order of their experts.
  for (var c = local; c < CANDIDATES; c += WORKGROUP) {
    let key = best_keys[c];
    var rank = 0u;
    for (var start = 0u; start < CANDIDATE_ROOM; start += STRETCH) {
#unroll i < 8
      rank += goes_before(best_keys[start + i], start + i, key, c);
#endunroll
    }
    if (rank < TOP_K) {
      chosen[rank] = best_experts[c];
    }
  }
  workgroupBarrier();
}

// What `choose` gave a slot of its token: (expert, weight as f32 bits).
fn slot_choice(slot: u32) -> vec2<u32> {
  var expert = EXPERTS + slot - TOP_K;
  var weight = 1.0;
  if (slot < TOP_K) {
    expert = chosen[slot];
    weight = scores[expert];
#if NORMALIZED
    var total = 0.0;
#unroll i < TOP_K
    total += scores[chosen[i]];
#endunroll
    weight /= total + 1e-20;
#endif
    weight *= SCALING;
  }
  return vec2<u32>(expert, bitcast<u32>(weight));
}

fn write_choice(token: u32, local: u32) {
  for (var slot = local; slot < SLOTS; slot += WORKGROUP) {
    routing[token * SLOTS + slot] = slot_choice(slot);
  }
}

// Must be reached in uniform control flow, once by a workgroup.
fn route(token: u32, local: u32) {
  choose(token, local);
  write_choice(token, local);
}
