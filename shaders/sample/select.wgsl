// Which tokens of a row may be drawn: exact top-k, then top-p, by radix select over the total order (logit downwards, token upwards).
//
// logits, scratch, batch, params as in tiles.wgsl, which has left every tile's largest logit in scratch. Writes the row's first two pairs:
// (key of the last kept logit, largest token kept among those equal to it), (key of the largest logit, log(minP) as f32 bits).
//
// top-k keeps topK tokens (0: all). top-p keeps the fewest of those, likeliest first, whose probabilities reach topP of their sum. Among equal logits the lower
// tokens are kept. min-p is left to tiles.wgsl: it drops tokens less likely than minP times the likeliest.
// Numerics: lib/weight_sums.wgsl; tokens of less than 2^-28 of the likeliest weigh nothing, and top-p drops them.
//
// Dispatch: one workgroup of 256 a row. A filter costs four passes over the row, seven where a tie straddles its end. passes.wgsl finds the same with many workgroups.
#include "lib/batch.wgsl"
#include "lib/weight_sums.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> scratch: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read> batch: array<u32>;
@group(0) @binding(3) var<storage, read> params: array<vec4<u32>>;

const VECTORS: u32 = (VOCAB + 3u) / 4u;
const DIGITS: u32 = 7u;
const KEY_DIGITS: u32 = 4u;

// An order key and a token inverted in 24 bits: a larger place comes first.
struct Place {
  key: u32,
  inverse: u32,
}

struct Search {
  // The digits found so far; further digits are zero.
  prefix: Place,
  // What the tokens from here down have to weigh yet.
  remaining: vec2<u32>,
  done: u32,
}

var<workgroup> largest_key: atomic<u32>;
var<workgroup> high: array<atomic<u32>, 256>;
var<workgroup> low: array<atomic<u32>, 256>;
var<workgroup> group_sums: array<vec2<u32>, 16>;
var<workgroup> search: Search;

fn bin(index: u32) -> vec2<u32> {
  return normalized(vec2<u32>(atomicLoad(&high[index]), atomicLoad(&low[index])));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.x;
  let head = row * (TILES + 2u);
  let settings = params[token_sequence(output_row(row)) * 4u];
  if (is_greedy(settings)) {
    return;
  }
  for (var tile = local; tile < TILES; tile += 256u) {
    atomicMax(&largest_key, scratch[head + 2u + tile].x);
  }
  workgroupBarrier();
  let largest = key_value(atomicLoad(&largest_key));
  let rate = 1.0 / bitcast<f32>(settings.x);
  let top_p = bitcast<f32>(settings.y);
  let top_k = settings.z;
  var limit = Place(0u, 0u);
  for (var filter_index = 0u; filter_index < 2u; filter_index++) {
    let by_weight = filter_index == 1u;
    let wanted = select(top_k > 0u && top_k < VOCAB, top_p < 1.0, by_weight);
    if (!wanted) {
      continue;
    }
    if (local == 0u) {
      search = Search(Place(0u, 0u), vec2<u32>(0u), 0u);
    }
    for (var digit = 0u; digit < DIGITS; digit++) {
      let current = workgroupUniformLoad(&search);
      if (current.done == 1u) {
        break;
      }
      let in_key = digit < KEY_DIGITS;
      let shift = select(8u * (DIGITS - 1u - digit), 8u * (KEY_DIGITS - 1u - digit), in_key);
      atomicStore(&high[local], 0u);
      atomicStore(&low[local], 0u);
      workgroupBarrier();
      for (var vector = local; vector < VECTORS; vector += 256u) {
        let bits = logits[row * ROW_VECTORS + vector];
        for (var c = 0u; c < 4u; c++) {
          let token = vector * 4u + c;
          let key = order_key(bits[c]);
          let inverse = 0xffffffu - token;
          let allowed = token < VOCAB && key > KEY_MINUS_INFINITY && (key > limit.key || (key == limit.key && inverse >= limit.inverse));
          let part = select(inverse, key, in_key);
          let known = select(current.prefix.inverse, current.prefix.key, in_key);
          // Two shifts, because eight bits above the first digit of a key would be a shift by 32.
          let matches = (in_key || key == current.prefix.key) && ((part >> shift) >> 8u) == ((known >> shift) >> 8u);
          if (allowed && matches) {
            let weight = weight_of(key, by_weight, largest, rate);
            let index = (part >> shift) & 255u;
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
      if (local < 16u) {
        var sum = vec2<u32>(0u);
        for (var i = 0u; i < 16u; i++) {
          let one = bin(local * 16u + i);
          sum = normalized(sum + one);
        }
        group_sums[local] = sum;
      }
      workgroupBarrier();
      if (local == 0u) {
        var remaining = current.remaining;
        if (digit == 0u) {
          var total = vec2<u32>(0u);
          for (var i = 0u; i < 16u; i++) {
            total = normalized(total + group_sums[i]);
          }
          remaining = wanted_weight(by_weight, top_k, top_p, total);
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
        var prefix = current.prefix;
        if (in_key) {
          prefix.key |= index << shift;
        } else {
          prefix.inverse |= index << shift;
        }
        // All tokens of this logit are needed, most often because it is only one.
        let one = weight_of(prefix.key, by_weight, largest, rate);
        let all = digit == KEY_DIGITS - 1u && less(bin(index), normalized(remaining + one));
        search = Search(prefix, remaining, u32(all));
      }
    }
    limit = workgroupUniformLoad(&search).prefix;
  }
  if (local == 0u) {
    let min_p = bitcast<f32>(settings.w);
    let cutoff = select(-3e38, log(clamp(min_p, 1e-30, 1.0)), min_p > 0.0);
    scratch[head] = vec2<u32>(limit.key, 0xffffffu - limit.inverse);
    scratch[head + 1u] = vec2<u32>(atomicLoad(&largest_key), bitcast<u32>(cutoff));
  }
}
