// The keys and values of a step's tokens, into a layer's latent cache: RMSNorm of the latent, rotation of the shared key part.
//
// x           [tokens, X_STRIDE] f32, from column X_OFFSET on: the latent (LATENT), then the key part (ROPE); output of kv_a_proj_with_mqa
// gamma       [LATENT or more] f32
// rope_table  [positions, ROPE / 2] of (cos, sin)
// cache       [blocks, BLOCK_SIZE, 4 CACHE_VECTORS] in CACHE_FORMAT: x * gamma / sqrt(mean(x^2) + EPSILON), the rotated key part, zeros
//
// Dispatch: a workgroup of WORKGROUP for each token. Pairs (2i, 2i + 1) are rotated, as DeepSeek's are (DeepSeek-V3 inference/model.py, apply_rotary_emb).
// f32 throughout, with EXACT the sum of squares and the rotation exact (lib/exactSum.wgsl); f16 is rounded to at the end, values beyond its range to its largest.
#include "lib/batch.wgsl"
#include "lib/kv_cache.wgsl"
#include "lib/rms.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> block_table: array<u32>;
@group(0) @binding(2) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read> x: array<f32>;
@group(0) @binding(4) var<storage, read> gamma: array<f32>;
#if CACHE_FORMAT == f16
@group(0) @binding(5) var<storage, read_write> cache: array<u32>;
#else
@group(0) @binding(5) var<storage, read_write> cache: array<vec2<f32>>;
#endif

fn cached(column: u32, base: u32, position: u32, factor: f32) -> f32 {
  if (column < LATENT) {
    return (x[base + column] * factor) * gamma[column];
  }
  let i = column - LATENT;
  if (i >= ROPE) {
    return 0.0;
  }
  let turn = rope_table[position * (ROPE / 2u) + i / 2u];
  let pair = base + LATENT + i / 2u * 2u;
  if (i % 2u == 0u) {
    return turned(x[pair], turn.x, -x[pair + 1u], turn.y);
  }
  return turned(x[pair], turn.y, x[pair + 1u], turn.x);
}

// a * c + b * d
fn turned(a: f32, c: f32, b: f32, d: f32) -> f32 {
#if EXACT
  let sum = exact_add_products(no_squares(), vec4<f32>(a, b, 0.0, 0.0), vec4<f32>(c, d, 0.0, 0.0));
  return rounded(exact_across(sum, sum, sum, sum)).x;
#else
  return a * c + b * d;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
#if !EXACT
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
#endif
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  let base = token * X_STRIDE + X_OFFSET;
  var squares = no_squares();
  for (var column = local; column < LATENT; column += WORKGROUP) {
    squares = add_squares(squares, vec4<f32>(x[base + column], 0.0, 0.0, 0.0));
  }
  let factor = rms_factor(squares, local, LATENT);
  let position = token_position(token);
  let row = cache_row(token_sequence(token), position) * 2u;
  for (var pair = local; pair < CACHE_VECTORS * 2u; pair += WORKGROUP) {
    let values = vec2<f32>(cached(pair * 2u, base, position, factor), cached(pair * 2u + 1u, base, position, factor));
#if CACHE_FORMAT == f16
    cache[row + pair] = pack2x16float(clamp(values, vec2<f32>(-65504.0), vec2<f32>(65504.0)));
#else
    cache[row + pair] = values;
#endif
  }
}
