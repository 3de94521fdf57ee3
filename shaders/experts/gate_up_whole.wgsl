// h[t, slot] = silu(W_gate x[t]) * (W_up x[t]), as gate_up_few.wgsl has it, for software adapters: as matvec/whole.wgsl, a lane has ROWS whole rows each of gate and up, and loads one vector of x
// for all lanes of its subgroup.
//
// Bindings as in gate_up_teams.wgsl; x columns 0 .. 4 VECTORS, rows of weights of VECTORS / PARTS units (lib/unit.wgsl).
//
// Dispatch: (tokens, ceil(WIDTH / (ROWS * LANES)), SLOTS) workgroups of LANES, which is the subgroup size. Workgroups whose expert is not bound exit.
// RAGGED_ROWS: WIDTH is no multiple of ROWS * LANES; RAGGED_VECTORS: VECTORS is no multiple of LANES.
// Sums are f32, in the order of the columns; a 128-block's scale multiplies partial sums.
#include "lib/expert_units.wgsl"
#include "lib/unit_parts.wgsl"
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

const UNITS: u32 = VECTORS / PARTS;

fn store(row_of_h: u32, row: u32, gate: f32, up: f32) {
#if RAGGED_ROWS
  if (row >= WIDTH) {
    return;
  }
#endif
  h[row_of_h * H_STRIDE + row] = silu(gate) * up;
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let token = group.x;
  let row_of_h = token * SLOTS + group.z;
  let expert = routing[row_of_h].x;
  if (!expert_bound(expert)) {
    return;
  }
  let page = expert_page(expert);
  let first = (group.y * LANES + local) * ROWS;
  let expert_row = expert_in_page(expert) * 2u * WIDTH;
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let gate_scales = (expert * 2u * SCALE_ROWS + min(first, WIDTH - 1u) / 128u) * SCALE_COLUMNS;
  let up_scales = gate_scales + SCALE_ROWS * SCALE_COLUMNS;
#endif
  // Of gate, then of up.
  var rows: array<u32, 2u * ROWS>;
#unroll r < ROWS
#if RAGGED_ROWS
  // Rows past the last repeat it.
  let row = expert_row + min(first + r, WIDTH - 1u);
#else
  let row = expert_row + first + r;
#endif
  rows[r] = row * UNITS;
  rows[ROWS + r] = (row + WIDTH) * UNITS;
#endunroll
  var sums: array<f32, 2u * ROWS>;
  var squares = 0.0;
  for (var block = 0u; block < VECTORS; block += LANES) {
#if RAGGED_VECTORS
    let vector = min(block + lane, VECTORS - 1u);
    let inside = select(0.0, 1.0, block + lane < VECTORS);
#else
    let vector = block + lane;
    let inside = 1.0;
#endif
    var factors = vec2<f32>(WEIGHT_FACTOR);
#if WEIGHT_FORMAT == fp8
    factors *= vec2<f32>(scales[gate_scales + block / 32u], scales[up_scales + block / 32u]);
#endif
    var own = inside * x[token * (X_STRIDE / 4u) + vector];
#if NORM
    squares += dot(own, own);
    own *= gamma[vector];
#endif
    var products = array<f32, 2u * ROWS>();
#unroll u < BLOCK_UNITS
#if RAGGED_VECTORS
      let unit = min(block / PARTS + u, UNITS - 1u);
#else
      let unit = block / PARTS + u;
#endif
      var at: array<u32, LOADS>;
#unroll r < 2 * ROWS
      at[r] = rows[r] + unit;
#endunroll
      let words = page_units(page, at);
#unroll part < PARTS
        let shared_vector = subgroupBroadcast(own, u * PARTS + part);
#unroll r < 2 * ROWS
        products[r] = add_dot(products[r], decode_part(words[r], part), shared_vector);
#endunroll
#endunroll
#endunroll
#unroll r < ROWS
    sums[r] += products[r] * factors.x;
    sums[ROWS + r] += products[ROWS + r] * factors.y;
#endunroll
  }
#if NORM
  let factor = inverseSqrt(subgroupAdd(squares) / f32(HIDDEN) + EPSILON);
#else
  let factor = 1.0;
#endif
#unroll r < ROWS
  store(row_of_h, first + r, sums[r] * factor, sums[ROWS + r] * factor);
#endunroll
}
