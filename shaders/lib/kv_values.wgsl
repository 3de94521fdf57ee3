// What a token's row of the latent cache holds: RMSNorm of the latent, the rotated key part, zeros. Needs lib/rms.wgsl and, in the including shader:
//
//   @group(0) @binding(n) var<storage, read> x: array<f32>;                  [tokens, X_STRIDE], from X_OFFSET on the latent (LATENT), then the key part (ROPE)
//   @group(0) @binding(n) var<storage, read> gamma: array<f32>;              [LATENT or more]
//   @group(0) @binding(n) var<storage, read> rope_table: array<vec2<f32>>;   [positions, ROPE / 2] of (cos, sin)
//
// Pairs (2i, 2i + 1) are rotated, as DeepSeek's are (DeepSeek-V3 inference/model.py, apply_rotary_emb). f32, with EXACT the rotation exact.

fn value_of(column: u32, base: u32, position: u32, factor: f32) -> f32 {
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
