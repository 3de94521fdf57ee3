// A lane's sums of products of a team's ROWS rows of weights with TOKENS rows of x, and with NORM of the squares of x (lib/row_teams.wgsl).
//
// Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> x: array<vec4<f32>>;        [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 4 PARTS UNITS
//   @group(0) @binding(n) var<storage, read> weights: array<Unit>;       [ROW_COUNT, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl)
//   @group(0) @binding(n) var<storage, read> scales: array<f32>;         [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
//   @group(0) @binding(n) var<storage, read> gamma: array<vec4<f32>>;    [4 PARTS UNITS] f32, with NORM: multiplies x; the norm's factor is left to the caller
//
// Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`. RAGGED_ROWS: ROW_COUNT is no multiple of ROWS * TEAMS; RAGGED_UNITS: UNITS is no multiple
// of STEP * UNROLL.
#include "lib/row_teams.wgsl"

const PRODUCTS: u32 = TOKENS * ROWS;

fn unit_row(row: u32) -> u32 {
#if RAGGED_ROWS
  // The last team repeats the last row rather than reading past the end.
  return min(row, ROW_COUNT - 1u) * UNITS;
#else
  return row * UNITS;
#endif
}

// Of rows `first`, `first` + 1, ... and tokens `first_token`, ...: products [TOKENS, ROWS], then with NORM the squares of each token.
fn row_sums(first: u32, first_token: u32, split: u32, lane: u32) -> array<f32, SUMS> {
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let scale_row = (ROW_START + min(first, ROW_COUNT - 1u)) / 128u * SCALE_COLUMNS;
#endif
  var sums: array<f32, SUMS>;
  for (var start = split * LANES + lane; start < UNITS; start += STEP * UNROLL) {
    var words: array<Unit, UNROLL * ROWS>;
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * STEP, UNITS - 1u);
#else
      let unit = start + u * STEP;
#endif
#unroll r < ROWS
        words[u * ROWS + r] = weights[unit_row(first + r) + unit];
#endunroll
#endunroll
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * STEP, UNITS - 1u);
      let inside = select(0.0, 1.0, start + u * STEP < UNITS);
#else
      let unit = start + u * STEP;
      let inside = 1.0;
#endif
      var factor = inside * WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
      factor *= scales[scale_row + unit / SCALE_UNITS];
#endif
      var products = array<f32, PRODUCTS>();
#unroll part < PARTS
        var vectors: array<vec4<f32>, TOKENS>;
#unroll t < TOKENS
          vectors[t] = x[((first_token + t) * X_STRIDE + X_OFFSET) / 4u + unit * PARTS + part];
#if NORM
          sums[PRODUCTS + t] += inside * dot(vectors[t], vectors[t]);
          vectors[t] *= gamma[unit * PARTS + part];
#endif
#endunroll
#unroll r < ROWS
          let w = decode_part(words[u * ROWS + r], part);
#unroll t < TOKENS
            products[t * ROWS + r] = add_dot(products[t * ROWS + r], w, vectors[t]);
#endunroll
#endunroll
#endunroll
#unroll i < TOKENS * ROWS
        sums[i] += products[i] * factor;
#endunroll
#endunroll
  }
  return sums;
}
