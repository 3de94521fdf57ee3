// y[t] = (y[t] +) sum over slots of weight * (W_down h[t, slot]), as down_few.wgsl has it, for software adapters: as matvec/whole.wgsl, a lane has ROWS whole rows, and loads one vector of h for all
// lanes of its subgroup.
//
// Bindings as in down_teams.wgsl; h columns 0 .. 4 VECTORS, rows of weights of VECTORS / PARTS units (lib/unit.wgsl).
//
// Dispatch: (tokens, ceil(HIDDEN / (ROWS * LANES))) workgroups of LANES, which is the subgroup size. Experts not bound add nothing.
// RAGGED_ROWS: HIDDEN is no multiple of ROWS * LANES; RAGGED_VECTORS: VECTORS is no multiple of LANES.
// Sums are f32, in the order of slots and columns; a 128-block's scale and the slot's weight multiply partial sums.
#include "lib/expert_units.wgsl"
#include "lib/unit_parts.wgsl"

@group(0) @binding(0) var<storage, read> h: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif

const UNITS: u32 = VECTORS / PARTS;

fn store(row: u32, token: u32, sum: f32) {
#if RAGGED_ROWS
  if (row >= HIDDEN) {
    return;
  }
#endif
  let index = token * Y_STRIDE + row;
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
  let token = group.x;
  let first = (group.y * LANES + local) * ROWS;
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let scale_row = min(first, HIDDEN - 1u) / 128u;
#endif
  var sums: array<f32, ROWS>;
  for (var slot = 0u; slot < SLOTS; slot++) {
    let route = routing[token * SLOTS + slot];
    if (!expert_bound(route.x)) {
      continue;
    }
    let page = expert_page(route.x);
    let expert_row = expert_in_page(route.x) * HIDDEN;
    let weight = bitcast<f32>(route.y) * WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    let row_scales = (route.x * SCALE_ROWS + scale_row) * SCALE_COLUMNS;
#endif
    for (var block = 0u; block < VECTORS; block += LANES) {
#if RAGGED_VECTORS
      let vector = min(block + lane, VECTORS - 1u);
      let inside = select(0.0, 1.0, block + lane < VECTORS);
#else
      let vector = block + lane;
      let inside = 1.0;
#endif
      var factor = weight;
#if WEIGHT_FORMAT == fp8
      factor *= scales[row_scales + block / 32u];
#endif
      let own = inside * h[(token * SLOTS + slot) * VECTORS + vector];
      var products = array<f32, ROWS>();
#unroll u < BLOCK_UNITS
#if RAGGED_VECTORS
        let unit = min(block / PARTS + u, UNITS - 1u);
#else
        let unit = block / PARTS + u;
#endif
        var at: array<u32, LOADS>;
#unroll r < ROWS
#if RAGGED_ROWS
        // Rows past the last repeat it.
        at[r] = (expert_row + min(first + r, HIDDEN - 1u)) * UNITS + unit;
#else
        at[r] = (expert_row + first + r) * UNITS + unit;
#endif
#endunroll
        let words = page_units(page, at);
#unroll part < PARTS
          let shared_vector = subgroupBroadcast(own, u * PARTS + part);
#unroll r < ROWS
          products[r] = add_dot(products[r], decode_part(words[r], part), shared_vector);
#endunroll
#endunroll
#endunroll
#unroll r < ROWS
      sums[r] += products[r] * factor;
#endunroll
    }
  }
#unroll r < ROWS
  store(first + r, token, sums[r]);
#endunroll
}
