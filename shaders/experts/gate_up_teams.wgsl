// h[t, slot] = silu(W_gate x[t]) * (W_up x[t]), as gate_up_few.wgsl has it, in the shapes of lib/row_teams.wgsl: for large GPUs.
//
// x        [tokens, X_STRIDE] f32, columns 0 .. 4 PARTS UNITS
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: gate [WIDTH, UNITS], up [WIDTH, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl) (lib/expert_pages.wgsl)
// scales   [experts, 2, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// gamma    [4 PARTS UNITS] f32, with NORM: x is normalized first, x * gamma / sqrt(mean(x^2) + EPSILON); the factor is applied to the sums, so x is read once
// h        [tokens * SLOTS, H_STRIDE] f32, columns 0 .. WIDTH
//
// Dispatch: (tokens, ceil(WIDTH / (ROWS * TEAMS)), SLOTS) workgroups of WORKGROUP; a team has ROWS rows each of gate and up. Tokens come first, so that those who
// share an expert read its rows at about the same time, from caches. Workgroups whose expert is not bound exit.
// RAGGED_ROWS: WIDTH is no multiple of ROWS * TEAMS; RAGGED_UNITS: UNITS is no multiple of STEP * UNROLL.
// Sums are f32; a 128-block's scale multiplies partial sums.
#include "lib/expert_units.wgsl"
#include "lib/row_teams.wgsl"
#include "lib/silu.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> h: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
#if NORM
@group(0) @binding(4) var<storage, read> gamma: array<vec4<f32>>;
#endif

// Sums of a team: gate rows, up rows, with NORM the square of x.
const SQUARES: u32 = 2u * ROWS;

fn store(row_of_h: u32, row: u32, gate: f32, up: f32, squares: f32) {
#if RAGGED_ROWS
  if (row >= WIDTH) {
    return;
  }
#endif
#if NORM
  let factor = inverseSqrt(squares / f32(HIDDEN) + EPSILON);
  h[row_of_h * H_STRIDE + row] = silu(gate * factor) * (up * factor);
#else
  h[row_of_h * H_STRIDE + row] = silu(gate) * up;
#endif
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  let block = group.y;
  let row_of_h = token * SLOTS + group.z;
  let expert = routing[row_of_h].x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let lane = local % LANES;
  let team = local / LANES % TEAMS;
  let split = local / (LANES * TEAMS);
  let first = (block * TEAMS + team) * ROWS;
  let expert_row = expert_in_page(expert) * 2u * WIDTH;
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let gate_scales = (expert * 2u * SCALE_ROWS + min(first, WIDTH - 1u) / 128u) * SCALE_COLUMNS;
  let up_scales = gate_scales + SCALE_ROWS * SCALE_COLUMNS;
#endif
  var sums: array<f32, SUMS>;
  for (var start = split * LANES + lane; start < UNITS; start += STEP * UNROLL) {
    var at: array<u32, LOADS>;
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * STEP, UNITS - 1u);
#else
      let unit = start + u * STEP;
#endif
#unroll r < ROWS
#if RAGGED_ROWS
        // The last team repeats the last row rather than reading past the end.
        let row = expert_row + min(first + r, WIDTH - 1u);
#else
        let row = expert_row + first + r;
#endif
        at[u * 2u * ROWS + r] = row * UNITS + unit;
        at[(u * 2u + 1u) * ROWS + r] = (row + WIDTH) * UNITS + unit;
#endunroll
#endunroll
    let words = page_units(page, at);
#unroll u < UNROLL
#if RAGGED_UNITS
      let unit = min(start + u * STEP, UNITS - 1u);
      let inside = select(0.0, 1.0, start + u * STEP < UNITS);
#else
      let unit = start + u * STEP;
      let inside = 1.0;
#endif
      var factors = vec2<f32>(inside * WEIGHT_FACTOR);
#if WEIGHT_FORMAT == fp8
      factors *= vec2<f32>(scales[gate_scales + unit / SCALE_UNITS], scales[up_scales + unit / SCALE_UNITS]);
#endif
      var products = array<f32, 2u * ROWS>();
#unroll part < PARTS
        var vector = x[token * (X_STRIDE / 4u) + unit * PARTS + part];
#if NORM
        sums[SQUARES] += inside * dot(vector, vector);
        vector *= gamma[unit * PARTS + part];
#endif
#unroll r < 2 * ROWS
          products[r] = add_dot(products[r], decode_part(words[u * 2u * ROWS + r], part), vector);
#endunroll
#endunroll
#unroll r < ROWS
        sums[r] += products[r] * factors.x;
        sums[ROWS + r] += products[ROWS + r] * factors.y;
#endunroll
#endunroll
  }

#if SPLIT == 1
#unroll i < SUMS
    sums[i] = lanes_sum(sums[i]);
#endunroll
#unroll r < ROWS
    if (lane == r % LANES) {
#if NORM
      store(row_of_h, first + r, sums[r], sums[ROWS + r], sums[SQUARES]);
#else
      store(row_of_h, first + r, sums[r], sums[ROWS + r], 0.0);
#endif
    }
#endunroll
#else
#unroll i < SUMS
    let sum = lanes_sum(sums[i]);
    if (lane == i % LANES) {
      split_sums[(split * TEAMS + team) * SUMS + i] = sum;
    }
#endunroll
  workgroupBarrier();
  for (var i = local; i < TEAMS * ROWS; i += WORKGROUP) {
    var gate = 0.0;
    var up = 0.0;
    var squares = 0.0;
    for (var s = 0u; s < SPLIT; s++) {
      let base = (s * TEAMS + i / ROWS) * SUMS;
      gate += split_sums[base + i % ROWS];
      up += split_sums[base + ROWS + i % ROWS];
#if NORM
      squares += split_sums[base + SQUARES];
#endif
    }
    store(row_of_h, block * TEAMS * ROWS + i, gate, up, squares);
  }
#endif
}
