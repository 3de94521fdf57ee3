// Attention of absorbed queries over the paged latent cache, scores and values summed exactly (lib/exactSum.wgsl): mla/attention.wgsl, the same on every device.
//
// q         [tokens, Q_STRIDE] f32, per head [LATENT | ROPE]
// cache     [blocks, BLOCK_SIZE, CACHE_ROW] in CACHE_FORMAT: latent, key part, zeros
// attended  [tokens, HEADS, 16 CHUNKS] f32: the latents weighted by softmax(SCALE q k), zeros beyond LATENT
//
// Dispatch: (HEADS, tokens) workgroups of 64. A tile is 64 positions: an invocation scores one, then has every position of VECTORS times four columns. The softmax is
// online (Milakov & Gimelshein, arXiv 1805.02867); a factor that fades earlier tiles is as exact as the sums.
#include "lib/batch.wgsl"
#include "lib/kv_rows.wgsl"
#include "lib/precise.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> cache: array<CacheUnit>;
@group(0) @binding(4) var<storage, read_write> attended: array<vec4<f32>>;

const TILE: u32 = 64u;
const WIDTH: u32 = LATENT + ROPE;
const QUERY_VECTORS: u32 = (WIDTH + 3u) / 4u;
const NEUTRAL: f32 = -3e38;

var<workgroup> query: array<vec4<f32>, QUERY_VECTORS>;
var<workgroup> rows: array<u32, TILE>;
var<workgroup> scores: array<f32, TILE>;
// hi, lo of e^(score - largest)
var<workgroup> shares: array<vec2<f32>, TILE>;

fn scaled(sum: ExactSum, factor: ExactSum) -> ExactSum {
  let zero = vec4<f32>(0.0);
  let product = exact_add_scaled(ExactSum(zero, zero), sum, factor.hi);
  return ExactSum(product.hi, product.lo + sum.hi * factor.lo);
}

// e^x for x of 0 and below; below -80 nothing. e^(hi + lo) is e^hi (1 + lo).
fn share_of(x: ExactSum) -> ExactSum {
  let e = exact_exp(max(x.hi, vec4<f32>(-80.0)));
  let zero = vec4<f32>(0.0);
  let nothing = x.hi < vec4<f32>(-80.0);
  return ExactSum(select(e.hi, zero, nothing), select(e.lo + e.hi * x.lo, zero, nothing));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
  if (token >= token_count()) {
    return;
  }
  let head = group.x;
  let zero = ExactSum(vec4<f32>(0.0), vec4<f32>(0.0));
  for (var v = local; v < QUERY_VECTORS; v += TILE) {
    var four: vec4<f32>;
    for (var i = 0u; i < 4u; i++) {
      let column = v * 4u + i;
      // What lies past the head's last column meets zeros of the cache, but must not be another head's.
      four[i] = select(0.0, q[token * Q_STRIDE + head * WIDTH + min(column, WIDTH - 1u)], column < WIDTH);
    }
    query[v] = four;
  }
  let sequence = token_sequence(token);
  let length = token_position(token) + 1u;
  var largest = NEUTRAL;
  var total = zero;
  var sums: array<ExactSum, VECTORS>;
  for (var tile = 0u; tile < length; tile += TILE) {
    // Positions past the end repeat the last one, and get no share.
    let row = cache_row(sequence, min(tile + local, length - 1u));
    workgroupBarrier();
    var products = zero;
    for (var v = 0u; v < QUERY_VECTORS; v++) {
      products = exact_add_products(products, query[v], cached(row, v));
    }
    let score = normalized(exact_add_scaled(zero, exact_across(products, zero, zero, zero), vec4<f32>(SCALE)));
    rows[local] = row;
    scores[local] = score.hi.x;
    workgroupBarrier();
    let before = largest;
    for (var i = 0u; i < TILE; i++) {
      largest = max(largest, scores[i]);
    }
    let below = normalized(exact_add(score, vec4<f32>(-largest), vec4<f32>(0.0)));
    let e = share_of(below);
    let is_position = tile + local < length;
    shares[local] = select(vec2<f32>(0.0), vec2<f32>(e.hi.x, e.lo.x), is_position);
    workgroupBarrier();
    if (tile > 0u && largest > before) {
      let fading = share_of(exact_add(ExactSum(vec4<f32>(before), vec4<f32>(0.0)), vec4<f32>(-largest), vec4<f32>(0.0)));
      total = scaled(total, fading);
      for (var n = 0u; n < VECTORS; n++) {
        sums[n] = scaled(sums[n], fading);
      }
    }
    for (var p = 0u; p < min(TILE, length - tile); p++) {
      let share = shares[p];
      total = exact_add(total, vec4<f32>(share.x), vec4<f32>(share.y));
      for (var n = 0u; n < VECTORS; n++) {
        let vector = local + n * TILE;
        if (vector < CHUNKS * 4u) {
          let value = cached_latents(rows[p], vector);
          sums[n] = exact_add_products(sums[n], vec4<f32>(share.x), value);
          sums[n].lo += share.y * value;
        }
      }
    }
  }
  for (var n = 0u; n < VECTORS; n++) {
    let vector = local + n * TILE;
    if (vector < CHUNKS * 4u) {
      // The last vector of latents may hold some of the key part.
      let kept = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(LATENT);
      let mean = exact_quotient(sums[n], total);
      attended[(token * HEADS + head) * CHUNKS * 4u + vector] = select(vec4<f32>(0.0), mean, kept);
    }
  }
}
