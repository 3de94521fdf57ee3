// The experts' products for up to some tens of tokens, as stream.wgsl has them, in the shapes of lib/row_teams.wgsl: for large GPUs. A team has ROWS rows of an expert's
// weights (with GATE_UP half of them gate's), and multiplies them with TOKENS rows of a tile at a time; teams of a workgroup read the same x.
//
// With GATE_UP: output[row] = silu(W_gate input[row / SLOTS]) * (W_up input[row / SLOTS]); without: output[row] = W input[row];
// row = token * SLOTS + slot.
//
// tiles, rows  as group_tokens.wgsl writes them
// input   [tokens or tokens * SLOTS, INPUT_STRIDE] f32, columns 0 .. 4 PARTS UNITS, zero beyond the weights' columns
// weights for each expert: MATRICES (gate, up; or down) of [OUTPUTS, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl) (lib/expert_pages.wgsl)
// scales  [experts, MATRICES, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// output  [tokens * SLOTS, OUTPUT_STRIDE] f32, columns 0 .. OUTPUTS
//
// Dispatch: (ceil(OUTPUTS * MATRICES / (ROWS * TEAMS)), an upper bound of the tiles) workgroups of WORKGROUP; surplus workgroups, and those whose expert is not bound, exit.
// RAGGED_UNITS: UNITS is no multiple of LANES * UNROLL. Numerics: f32; a 128-block's scale multiplies partial sums.
#include "lib/expert_units.wgsl"
#include "lib/row_teams.wgsl"
#include "lib/team_products.wgsl"
#include "lib/silu.wgsl"

// Outputs of a team.
const COLUMNS: u32 = ROWS / MATRICES;

@group(0) @binding(0) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> rows: array<u32>;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  if (group.y >= tiles[0].x) {
    return;
  }
  let tile = tiles[1u + group.y];
  let expert = tile.x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let lane = local % LANES;
  let first = (group.x * TEAMS + local / LANES) * COLUMNS;
  let expert_row = expert_in_page(expert) * MATRICES * OUTPUTS;
  // Rows past the last repeat it, and are not written.
  var weight_rows: array<u32, ROWS>;
#unroll r < ROWS
  weight_rows[r] = (expert_row + r / COLUMNS * OUTPUTS + min(first + r % COLUMNS, OUTPUTS - 1u)) * UNITS;
#endunroll
#if WEIGHT_FORMAT == fp8
  // COLUMNS rows from a multiple of COLUMNS share their scales.
  let scale_line = (expert * MATRICES * SCALE_ROWS + min(first, OUTPUTS - 1u) / 128u) * SCALE_COLUMNS;
#endif
  for (var done = 0u; done < tile.z; done += TOKENS) {
    // Rows of x past the last repeat it.
    var outputs_of: array<u32, TOKENS>;
    var x: array<u32, TOKENS>;
#unroll t < TOKENS
    let source = rows[tile.y + min(done + t, tile.z - 1u)];
    outputs_of[t] = source * OUTPUT_STRIDE + first;
#if GATE_UP
    x[t] = source / SLOTS * (INPUT_STRIDE / 4u);
#else
    x[t] = source * (INPUT_STRIDE / 4u);
#endif
#endunroll
    var sums = array<f32, SUMS>();
    for (var start = lane; start < UNITS; start += LANES * UNROLL) {
      var at: array<u32, LOADS>;
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * LANES, UNITS - 1u);
#else
      let unit = start + u * LANES;
#endif
#unroll r < ROWS
      at[u * ROWS + r] = weight_rows[r] + unit;
#endunroll
#endunroll
      let words = page_units(page, at);
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * LANES, UNITS - 1u);
      var factors = vec2<f32>(select(0.0, WEIGHT_FACTOR, start + u * LANES < UNITS));
#else
      let unit = start + u * LANES;
      var factors = vec2<f32>(WEIGHT_FACTOR);
#endif
#if WEIGHT_FORMAT == fp8
      let scale = scale_line + unit / SCALE_UNITS;
#if GATE_UP
      factors *= vec2<f32>(scales[scale], scales[scale + SCALE_ROWS * SCALE_COLUMNS]);
#else
      factors *= scales[scale];
#endif
#endif
      var own_words: array<Unit, ROWS>;
#unroll r < ROWS
      own_words[r] = words[u * ROWS + r];
#endunroll
      var products = array<f32, SUMS>();
#unroll part < PARTS
      var vectors: array<vec4<f32>, TOKENS>;
#unroll t < TOKENS
      vectors[t] = input[x[t] + unit * PARTS + part];
#endunroll
      products = add_part(products, own_words, part, vectors);
#endunroll
#unroll i < SUMS
      sums[i] += products[i] * factors[i % ROWS / COLUMNS];
#endunroll
#endunroll
    }
#unroll i < SUMS
    sums[i] = lanes_sum(sums[i]);
#endunroll
#unroll t < TOKENS
#unroll r < ROWS
    if (r < COLUMNS && lane == (t * COLUMNS + r) % LANES && done + t < tile.z && first + r < OUTPUTS) {
#if GATE_UP
      output[outputs_of[t] + r] = silu(sums[t * ROWS + r]) * sums[t * ROWS + (r + COLUMNS) % ROWS];
#else
      output[outputs_of[t] + r] = sums[t * ROWS + r];
#endif
    }
#endunroll
#endunroll
  }
}
