// What select.wgsl finds, in nine dispatches of many workgroups: PASS 0 .. 3 are the four digits of top-k's last key, 4 .. 7 those of top-p's, 8 writes what was found.
//
// logits, scratch, batch, params as in tiles.wgsl and select.wgsl
// sums    [rows, SUM_WORDS] u32: for each of the passes 0 .. 7 256 high and 256 low words of what the tokens of a digit weigh, zero at first (tiles.wgsl); then what
//         each pass knew at its start, 5 words: the digits found so far, what is wanted of the tokens from there down, the limit of the last filter (key, inverted token)
//
// A pass adds up the previous pass's sums, every workgroup for itself, which gives the next digit of the key; then it sums the weights of its own tile by the digit
// after that. Workgroups wait for each other only between dispatches. Where a tie straddles a filter's end, the next pass looks through the whole row for its last token.
// Numerics: those of select.wgsl, to the last bit.
//
// Dispatch: (TILES, rows) workgroups of 256, a tile being 1024 columns; (1, rows) for PASS 8.
#include "lib/batch.wgsl"
#include "lib/weight_sums.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> scratch: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> batch: array<u32>;
@group(0) @binding(3) var<storage, read> params: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> sums: array<atomic<u32>>;

const VECTORS: u32 = (VOCAB + 3u) / 4u;
const LAST_PASS: u32 = 8u;
const STATES: u32 = LAST_PASS * 512u;
const LAST_TOKEN: u32 = 0xffffffu;

struct Known {
  prefix: u32,
  remaining: vec2<u32>,
  limit_key: u32,
  // Tokens are kept inverted: of equal keys those from here up are allowed.
  limit_inverse: u32,
  // Ties wanted, where not all are; otherwise 0.
  ties: u32,
}

var<workgroup> largest_key: atomic<u32>;
var<workgroup> high: array<atomic<u32>, 256>;
var<workgroup> low: array<atomic<u32>, 256>;
var<workgroup> group_sums: array<vec2<u32>, 16>;
var<workgroup> shared_known: Known;
var<workgroup> tie_count: atomic<u32>;
var<workgroup> ties_here: u32;

fn bin(index: u32) -> vec2<u32> {
  return normalized(vec2<u32>(atomicLoad(&high[index]), atomicLoad(&low[index])));
}

fn filter_wanted(by_weight: bool, settings: vec4<u32>) -> bool {
  return select(settings.z > 0u && settings.z < VOCAB, bitcast<f32>(settings.y) < 1.0, by_weight);
}

fn allowed(token: u32, key: u32, known: Known) -> bool {
  let inverse = LAST_TOKEN - token;
  return token < VOCAB && key > KEY_MINUS_INFINITY && (key > known.limit_key || (key == known.limit_key && inverse >= known.limit_inverse));
}

// How many units of `one` reach `wanted`: at least 1, at most VOCAB.
fn units_for(wanted: vec2<u32>, one: vec2<u32>) -> u32 {
  var fewest = 1u;
  var most = VOCAB;
  while (fewest < most) {
    let middle = (fewest + most) / 2u;
    if (less(normalized(middle * one), wanted)) {
      fewest = middle + 1u;
    } else {
      most = middle;
    }
  }
  return fewest;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let head = row * (TILES + 2u);
  let base = row * SUM_WORDS;
  let settings = params[token_sequence(output_row(row)) * 4u];
  if (is_greedy(settings)) {
    return;
  }
  for (var tile = local; tile < TILES; tile += 256u) {
    atomicMax(&largest_key, scratch[head + 2u + tile].x);
  }
#if PASS == 0
  if (local == 0u) {
    shared_known = Known(0u, vec2<u32>(0u), 0u, 0u, 0u);
  }
#else
  const DIGIT: u32 = (PASS - 1u) % 4u;
  const BY_WEIGHT: bool = PASS > 4u;
  const BEFORE: u32 = STATES + (PASS - 1u) * 5u;
  if (local == 0u) {
    shared_known = Known(
      atomicLoad(&sums[base + BEFORE]),
      vec2<u32>(atomicLoad(&sums[base + BEFORE + 1u]), atomicLoad(&sums[base + BEFORE + 2u])),
      atomicLoad(&sums[base + BEFORE + 3u]),
      atomicLoad(&sums[base + BEFORE + 4u]),
      0u,
    );
  }
#endif
  workgroupBarrier();
  let largest = key_value(atomicLoad(&largest_key));
  let rate = 1.0 / bitcast<f32>(settings.x);
#if PASS == 0
#else
  if (filter_wanted(BY_WEIGHT, settings)) {
    atomicStore(&high[local], atomicLoad(&sums[base + (PASS - 1u) * 512u + local]));
    atomicStore(&low[local], atomicLoad(&sums[base + (PASS - 1u) * 512u + 256u + local]));
    workgroupBarrier();
    if (local < 16u) {
      var sum = vec2<u32>(0u);
      for (var i = 0u; i < 16u; i++) {
        sum = normalized(sum + bin(local * 16u + i));
      }
      group_sums[local] = sum;
    }
    workgroupBarrier();
    if (local == 0u) {
      var known = shared_known;
      var remaining = known.remaining;
      if (DIGIT == 0u) {
        var total = vec2<u32>(0u);
        for (var i = 0u; i < 16u; i++) {
          total = normalized(total + group_sums[i]);
        }
        remaining = wanted_weight(BY_WEIGHT, settings.z, bitcast<f32>(settings.y), total);
      }
      var index = 15u;
      while (index > 0u && less(group_sums[index], remaining)) {
        remaining = minus(remaining, group_sums[index]);
        index--;
      }
      let last = index * 16u;
      index = last + 15u;
      while (index > last && less(bin(index), remaining)) {
        remaining = minus(remaining, bin(index));
        index--;
      }
      known.prefix |= index << (8u * (3u - DIGIT));
      known.remaining = remaining;
      if (DIGIT == 3u) {
        // All tokens of this logit are needed, most often because it is only one.
        let one = weight_of(known.prefix, BY_WEIGHT, largest, rate);
        known.ties = select(units_for(remaining, one), 0u, less(bin(index), normalized(remaining + one)));
      }
      shared_known = known;
    }
    let found = workgroupUniformLoad(&shared_known);
    if (DIGIT == 3u) {
      var inverse = 0u;
      var seen = 0u;
      for (var first = 0u; first < VECTORS && found.ties > seen; first += 256u) {
        let vector = first + local;
        if (local == 0u) {
          atomicStore(&tie_count, 0u);
        }
        workgroupBarrier();
        if (vector < VECTORS) {
          let bits = logits[row * ROW_VECTORS + vector];
          for (var c = 0u; c < 4u; c++) {
            let key = order_key(bits[c]);
            if (key == found.prefix && allowed(vector * 4u + c, key, found)) {
              atomicAdd(&tie_count, 1u);
            }
          }
        }
        workgroupBarrier();
        if (local == 0u) {
          ties_here = atomicLoad(&tie_count);
        }
        let here = workgroupUniformLoad(&ties_here);
        if (seen + here >= found.ties && local == 0u) {
          var left = found.ties - seen;
          for (var token = first * 4u; token < min(VOCAB, (first + 256u) * 4u) && left > 0u; token++) {
            let key = order_key(logits[row * ROW_VECTORS + token / 4u][token % 4u]);
            if (key == found.prefix && allowed(token, key, found)) {
              left--;
              inverse = LAST_TOKEN - token;
            }
          }
        }
        seen += here;
      }
      workgroupBarrier();
      if (local == 0u) {
        shared_known = Known(0u, vec2<u32>(0u), found.prefix, inverse, 0u);
      }
    }
  }
#endif
  let known = workgroupUniformLoad(&shared_known);
#if PASS == 8
  if (local == 0u) {
    let min_p = bitcast<f32>(settings.w);
    let cutoff = select(-3e38, log(clamp(min_p, 1e-30, 1.0)), min_p > 0.0);
    scratch[head] = vec2<u32>(known.limit_key, LAST_TOKEN - known.limit_inverse);
    scratch[head + 1u] = vec2<u32>(atomicLoad(&largest_key), bitcast<u32>(cutoff));
  }
#else
  if (group.x == 0u && local == 0u) {
    const AFTER: u32 = STATES + PASS * 5u;
    atomicStore(&sums[base + AFTER], known.prefix);
    atomicStore(&sums[base + AFTER + 1u], known.remaining.x);
    atomicStore(&sums[base + AFTER + 2u], known.remaining.y);
    atomicStore(&sums[base + AFTER + 3u], known.limit_key);
    atomicStore(&sums[base + AFTER + 4u], known.limit_inverse);
  }
  const SUM_BY_WEIGHT: bool = PASS >= 4u;
  const SHIFT: u32 = 8u * (3u - PASS % 4u);
  if (!filter_wanted(SUM_BY_WEIGHT, settings)) {
    return;
  }
  atomicStore(&high[local], 0u);
  atomicStore(&low[local], 0u);
  workgroupBarrier();
  let vector = group.x * 256u + local;
  if (vector < VECTORS) {
    let bits = logits[row * ROW_VECTORS + vector];
    for (var c = 0u; c < 4u; c++) {
      let key = order_key(bits[c]);
      // Two shifts, because eight bits above the first digit of a key would be a shift by 32.
      if (allowed(vector * 4u + c, key, known) && ((key >> SHIFT) >> 8u) == ((known.prefix >> SHIFT) >> 8u)) {
        let weight = weight_of(key, SUM_BY_WEIGHT, largest, rate);
        let index = (key >> SHIFT) & 255u;
        if (weight.x > 0u) {
          atomicAdd(&high[index], weight.x);
        }
        if (weight.y > 0u) {
          atomicAdd(&low[index], weight.y);
        }
      }
    }
  }
  workgroupBarrier();
  let sum = vec2<u32>(atomicLoad(&high[local]), atomicLoad(&low[local]));
  if (sum.x > 0u) {
    atomicAdd(&sums[base + PASS * 512u + local], sum.x);
  }
  if (sum.y > 0u) {
    atomicAdd(&sums[base + PASS * 512u + 256u + local], sum.y);
  }
#endif
}
