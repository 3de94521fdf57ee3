// y[t, row] = sum over k of w[row, k] * x[t, k], for a few tokens, as matvec.wgsl has it, for software adapters: there loads cost more than what is done with them, of an address that all lanes share
// as many as of others. So a lane has ROWS whole rows of weights, and loads one vector of x for all lanes of its subgroup.
//
// Bindings as in matvec.wgsl; x columns X_OFFSET .. X_OFFSET + 4 VECTORS, weights [rows of this part, VECTORS / PARTS] in WEIGHT_FORMAT (lib/unit.wgsl).
//
// Dispatch: (ceil(ROW_COUNT / (ROWS * LANES)), tokens / TOKENS) workgroups of LANES, which is the subgroup size. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`.
// RAGGED_ROWS: ROW_COUNT is no multiple of ROWS * LANES; RAGGED_VECTORS: VECTORS is no multiple of LANES.
// Sums are f32, in the order of the columns. Tokens beyond the batch's count are computed from whatever their rows hold and never read.
#include "lib/unit_parts.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<Unit>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
#if NORM
@group(0) @binding(4) var<storage, read> gamma: array<vec4<f32>>;
#endif

const UNITS: u32 = VECTORS / PARTS;

fn unit_row(row: u32) -> u32 {
#if RAGGED_ROWS
  // Rows past the last repeat it.
  return min(row, ROW_COUNT - 1u) * UNITS;
#else
  return row * UNITS;
#endif
}

fn store(row: u32, token: u32, sum: f32) {
#if RAGGED_ROWS
  if (row >= ROW_COUNT) {
    return;
  }
#endif
  let index = token * Y_STRIDE + ROW_START + row;
#if RESIDUAL
  y[index] += sum;
#else
  y[index] = sum;
#endif
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first = (group.x * LANES + local) * ROWS;
  let first_token = group.y * TOKENS;
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let scale_row = (ROW_START + min(first, ROW_COUNT - 1u)) / 128u * SCALE_COLUMNS;
#endif
  var rows: array<u32, ROWS>;
#unroll r < ROWS
  rows[r] = unit_row(first + r);
#endunroll
  var sums: array<f32, TOKENS * ROWS>;
#if NORM
  var squares: array<f32, TOKENS>;
#endif
  for (var block = 0u; block < VECTORS; block += LANES) {
#if RAGGED_VECTORS
    let vector = min(block + lane, VECTORS - 1u);
    let inside = select(0.0, 1.0, block + lane < VECTORS);
#else
    let vector = block + lane;
    let inside = 1.0;
#endif
    var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    factor *= scales[scale_row + block / 32u];
#endif
    var own: array<vec4<f32>, TOKENS>;
#unroll t < TOKENS
    own[t] = inside * x[((first_token + t) * X_STRIDE + X_OFFSET) / 4u + vector];
#if NORM
    squares[t] += dot(own[t], own[t]);
    own[t] *= gamma[vector];
#endif
#endunroll
    var products = array<f32, TOKENS * ROWS>();
#unroll u < BLOCK_UNITS
#if RAGGED_VECTORS
      let unit = min(block / PARTS + u, UNITS - 1u);
#else
      let unit = block / PARTS + u;
#endif
      var words: array<Unit, ROWS>;
#unroll r < ROWS
      words[r] = weights[rows[r] + unit];
#endunroll
#unroll part < PARTS
      var vectors: array<vec4<f32>, TOKENS>;
#unroll t < TOKENS
      vectors[t] = subgroupBroadcast(own[t], u * PARTS + part);
#endunroll
#unroll r < ROWS
      let w = decode_part(words[r], part);
#unroll t < TOKENS
      products[t * ROWS + r] = add_dot(products[t * ROWS + r], w, vectors[t]);
#endunroll
#endunroll
#endunroll
#endunroll
#unroll i < TOKENS * ROWS
    sums[i] += products[i] * factor;
#endunroll
  }
#unroll t < TOKENS
#if NORM
  let scale = inverseSqrt(subgroupAdd(squares[t]) / f32(K) + EPSILON);
#else
  let scale = 1.0;
#endif
#unroll r < ROWS
  store(first + r, first_token + t, sums[t * ROWS + r] * scale);
#endunroll
#endunroll
}
