// y[t, row] = sum over k of w[row, k] * x[t, k], for up to some tens of tokens, as stream.wgsl has it, in the shapes of lib/row_teams.wgsl: for large GPUs. Teams of a
// workgroup have ROWS rows each, and read the same TOKENS rows of x.
//
// x       [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 4 PARTS UNITS
// weights [rows of this part, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl); scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// batch   (lib/batch.wgsl) says how many rows of x count: tokens, or with COUNT_OUTPUTS outputs
// y       [tokens, Y_STRIDE] f32; with RESIDUAL the sums are added to it. Rows beyond the count are not written.
//
// Dispatch: [ceil(tokens / TOKENS), ceil(ROW_COUNT / (ROWS * TEAMS))] workgroups of WORKGROUP; rows beyond 65535 workgroups go along z. Workgroups with the same rows come
// one after another, so that memory is read once. Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`; ROW_START is a multiple of 128.
// SPLIT parts of a workgroup take other columns. RAGGED_UNITS: UNITS is no multiple of STEP * UNROLL. Numerics: f32; a 128-block's scale multiplies partial sums.
#include "lib/row_teams.wgsl"
#include "lib/team_products.wgsl"
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<Unit>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

fn store(token: u32, row: u32, count: u32, sum: f32) {
  if (token < count && row < ROW_COUNT) {
    let index = token * Y_STRIDE + ROW_START + row;
#if RESIDUAL
    y[index] += sum;
#else
    y[index] = sum;
#endif
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
#if COUNT_OUTPUTS
  let count = output_count();
#else
  let count = token_count();
#endif
  let block = group.z * groups.y + group.y;
  let token = group.x * TOKENS;
  if (token >= count || block * (ROWS * TEAMS) >= ROW_COUNT) {
    return;
  }
  let lane = local % LANES;
  let team = local / LANES % TEAMS;
  let split = local / (LANES * TEAMS);
  let first = (block * TEAMS + team) * ROWS;
  // Rows past the last repeat it, of weights and of x.
  var weight_rows: array<u32, ROWS>;
#unroll r < ROWS
  weight_rows[r] = min(first + r, ROW_COUNT - 1u) * UNITS;
#endunroll
  var tokens: array<u32, TOKENS>;
#unroll t < TOKENS
  tokens[t] = (min(token + t, count - 1u) * X_STRIDE + X_OFFSET) / 4u;
#endunroll
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let scale_line = (ROW_START + min(first, ROW_COUNT - 1u)) / 128u * SCALE_COLUMNS;
#endif
  var sums = array<f32, SUMS>();
  for (var start = split * LANES + lane; start < UNITS; start += STEP * UNROLL) {
    var words: array<Unit, UNROLL * ROWS>;
#unroll u < UNROLL
#if RAGGED_UNITS
    let unit = min(start + u * STEP, UNITS - 1u);
#else
    let unit = start + u * STEP;
#endif
#unroll r < ROWS
    words[u * ROWS + r] = weights[weight_rows[r] + unit];
#endunroll
#endunroll
#unroll u < UNROLL
#if RAGGED_UNITS
    let unit = min(start + u * STEP, UNITS - 1u);
    var factor = select(0.0, WEIGHT_FACTOR, start + u * STEP < UNITS);
#else
    let unit = start + u * STEP;
    var factor = WEIGHT_FACTOR;
#endif
#if WEIGHT_FORMAT == fp8
    factor *= scales[scale_line + unit / SCALE_UNITS];
#endif
    var own_words: array<Unit, ROWS>;
#unroll r < ROWS
    own_words[r] = words[u * ROWS + r];
#endunroll
    var products = array<f32, SUMS>();
#unroll part < PARTS
    var vectors: array<vec4<f32>, TOKENS>;
#unroll t < TOKENS
    vectors[t] = x[tokens[t] + unit * PARTS + part];
#endunroll
    products = add_part(products, own_words, part, vectors);
#endunroll
#unroll i < SUMS
    sums[i] += products[i] * factor;
#endunroll
#endunroll
  }
#unroll i < SUMS
  sums[i] = lanes_sum(sums[i]);
#endunroll
#if SPLIT == 1
#unroll i < SUMS
  if (lane == i % LANES) {
    store(token + i / ROWS, first + i % ROWS, count, sums[i]);
  }
#endunroll
#else
#unroll i < SUMS
  if (lane == i % LANES) {
    split_sums[(split * TEAMS + team) * SUMS + i] = sums[i];
  }
#endunroll
  workgroupBarrier();
  for (var i = local; i < TEAMS * SUMS; i += WORKGROUP) {
    var sum = 0.0;
    for (var s = 0u; s < SPLIT; s++) {
      sum += split_sums[s * TEAMS * SUMS + i];
    }
    store(token + i % SUMS / ROWS, block * (ROWS * TEAMS) + i / SUMS * ROWS + i % ROWS, count, sum);
  }
#endif
}
