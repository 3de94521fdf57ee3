// Products of a team's ROWS rows of weights (lib/row_teams.wgsl) with TOKENS rows of x: a weight is decoded once for all of them.
// Constants: TOKENS; SUMS = TOKENS * ROWS. Needs lib/row_teams.wgsl.

// Of one vector of four columns of each row.
fn add_part(sums: array<f32, SUMS>, words: array<Unit, ROWS>, part: u32, vectors: array<vec4<f32>, TOKENS>) -> array<f32, SUMS> {
  var products = sums;
#unroll r < ROWS
  let w = decode_part(words[r], part);
#unroll t < TOKENS
  products[t * ROWS + r] = add_dot(products[t * ROWS + r], w, vectors[t]);
#endunroll
#endunroll
  return products;
}
