// The best token of every tile of every row of logits: the largest logit, or with DRAW the largest logit plus noise among the kept tokens. With CHOOSES the best of a row's tiles becomes the
// sequence's next token, unless that is given: then it is only noted.
//
// logits  [rows, 4 ROW_VECTORS] f32 bits, of which VOCAB columns count
// scratch [rows, 2 + TILES] pairs: what select.wgsl found, then without CHOOSES a tile's winner as (order key, token). Key 0: the tile keeps no token.
// With DRAW: params (lib/sampling.wgsl). With CHOOSES, as DRAW always is: batch (lib/batch.wgsl) and
//   board  [rows, 2 TILES + 1] u32, zeros before and after (lib/board.wgsl): the tiles' winners, and how many tiles are done
//   latest [sequence slots] u32: the token last sampled for the sequence
//   ring   [.., RING_ROWS] u32: row ring_row() gets the tokens of this step, in the order of its outputs
// With CLEARED_SUMS: sums [rows, SUM_WORDS] u32, of whose rows the first CLEARED_SUMS are set to zero
// (passes.wgsl)
//
// DRAW is the Gumbel-max trick: the largest of log(p) + G, with G standard Gumbel noise, is a draw from p, so nothing is summed or normalized. G comes from
// Philox keyed by the row's seed, with counter (token / 4, position of the token to be generated, AHEAD of the row's): a row's draw depends on nothing else in the batch.
// Rows whose temperature is below MIN_TEMPERATURE get no noise.
//
// Dispatch: (TILES, rows) workgroups of 64; a tile is 1024 columns. Ties go to the lower token; a row without any number in it gives token 0.
#include "lib/order.wgsl"
#if CHOOSES
#include "lib/batch.wgsl"
#include "lib/board.wgsl"
#endif
#if DRAW
#include "lib/sampling.wgsl"
#include "lib/philox.wgsl"
#endif

@group(0) @binding(0) var<storage, read> logits: array<vec4<u32>>;
#if DRAW
@group(0) @binding(1) var<storage, read> scratch: array<vec2<u32>>;
#endif
#if !CHOOSES
@group(0) @binding(1) var<storage, read_write> scratch: array<vec2<u32>>;
#endif
#if DRAW
@group(0) @binding(3) var<storage, read> params: array<vec4<u32>>;
#endif
#if CLEARED_SUMS
@group(0) @binding(4) var<storage, read_write> sums: array<u32>;
#endif
#if CHOOSES
@group(0) @binding(2) var<storage, read> batch: array<u32>;
@group(0) @binding(5) var<storage, read_write> board: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> latest: array<u32>;
@group(0) @binding(7) var<storage, read_write> ring: array<u32>;
#endif

// Zero at first, as all workgroup memory; tokens are kept inverted so that the larger is the better.
var<workgroup> best_key: atomic<u32>;
var<workgroup> best_inverse: atomic<u32>;
#if CHOOSES
var<workgroup> is_last: u32;
var<workgroup> row_key: atomic<u32>;
var<workgroup> row_inverse: atomic<u32>;
#endif

#if DRAW
// -log(-log(1 - v)) for v uniform in (0, 1) with the resolution of 32 bits near 0, where the winners are. The series spares log its absolute error near 1.
fn gumbel(word: u32) -> f32 {
  let v = min((f32(word) + 0.5) * 2.3283064365386963e-10, 0.99999994);
  let series = v * (1.0 + v * (0.5 + v * (0.33333334 + v * (0.25 + v * 0.2))));
  return -log(select(-log(1.0 - v), series, v < 0.0625));
}
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let head = row * (TILES + 2u);
#if DRAW
  let token = output_row(row);
  let sequence = token_sequence(token);
  let settings = params[sequence * 4u];
  let stream = params[sequence * 4u + 1u];
  let seed = stream.xy;
  let position = stream.z + token_position(token) + AHEAD;
  let greedy = is_greedy(settings);
  let rate = 1.0 / max(bitcast<f32>(settings.x), MIN_TEMPERATURE);
  let threshold = scratch[head];
  let largest = key_value(scratch[head + 1u].x);
  let cutoff = bitcast<f32>(scratch[head + 1u].y);
#endif
#if CLEARED_SUMS
  for (var word = group.x * 64u + local; word < CLEARED_SUMS; word += TILES * 64u) {
    sums[row * SUM_WORDS + word] = 0u;
  }
#endif
  var key = 0u;
  var winner = 0xffffffffu;
  for (var step = 0u; step < 4u; step++) {
    let vector = group.x * 256u + step * 64u + local;
    let first = vector * 4u;
    if (first < VOCAB) {
      let bits = logits[row * ROW_VECTORS + vector];
      var keys = vec4<u32>(order_key(bits.x), order_key(bits.y), order_key(bits.z), order_key(bits.w));
      let tokens = vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u);
      keys = select(vec4<u32>(0u), keys, tokens < vec4<u32>(VOCAB));
#if DRAW
      if (!greedy) {
        var weights: vec4<f32>;
        for (var c = 0u; c < 4u; c++) {
          weights[c] = log_weight(keys[c], largest, rate);
          let kept = keys[c] > KEY_MINUS_INFINITY && (keys[c] > threshold.x || (keys[c] == threshold.x && tokens[c] <= threshold.y));
          keys[c] = select(0u, keys[c], kept && weights[c] >= cutoff);
        }
        if (any(keys != vec4<u32>(0u))) {
          let words = philox(vec4<u32>(vector, position, 0u, 0u), seed);
          for (var c = 0u; c < 4u; c++) {
            keys[c] = select(0u, order_key(bitcast<u32>(weights[c] + gumbel(words[c]))), keys[c] != 0u);
          }
        }
      }
#endif
      for (var c = 0u; c < 4u; c++) {
        if (keys[c] > key) {
          key = keys[c];
          winner = tokens[c];
        }
      }
    }
  }
  atomicMax(&best_key, key);
  workgroupBarrier();
  if (key == atomicLoad(&best_key)) {
    atomicMax(&best_inverse, ~winner);
  }
  workgroupBarrier();
#if CHOOSES
  let places = row * (2u * TILES + 1u);
  if (local == 0u) {
    put_up_word(places + 2u * group.x, atomicLoad(&best_key));
    put_up_word(places + 2u * group.x + 1u, ~atomicLoad(&best_inverse));
    if (arrives_last(places + 2u * TILES, TILES)) {
      is_last = 1u;
    }
  }
  if (workgroupUniformLoad(&is_last) == 0u) {
    return;
  }
  var best = vec2<u32>(0u, 0xffffffffu);
  for (var tile = local; tile < TILES; tile += 64u) {
    let at = places + 2u * tile;
    let seen = vec2<u32>(atomicLoad(&board[at]), atomicLoad(&board[at + 1u]));
    let other = vec2<u32>(taken_word(at, seen.x), taken_word(at + 1u, seen.y));
    if (other.x > best.x) {
      best = other;
    }
  }
  atomicMax(&row_key, best.x);
  workgroupBarrier();
  if (best.x == atomicLoad(&row_key)) {
    atomicMax(&row_inverse, ~best.y);
  }
  workgroupBarrier();
  if (local == 0u && row < output_count()) {
    let chosen = select(~atomicLoad(&row_inverse), 0u, atomicLoad(&row_key) == 0u);
    let given = given_token(row);
    if (given == CHOSEN) {
      latest[token_sequence(output_row(row))] = chosen;
    }
    ring[ring_row() * RING_ROWS + row] = select(given, chosen, given == CHOSEN);
  }
#else
  if (local == 0u) {
    scratch[head + 2u + group.x] = vec2<u32>(atomicLoad(&best_key), ~atomicLoad(&best_inverse));
  }
#endif
}
