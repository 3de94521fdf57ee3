// y[t] = (y[t] +) sum over slots of weight * (W_down h[t, slot]), as down_few.wgsl has it, in the shapes of lib/row_teams.wgsl: for large GPUs.
//
// h        [tokens * SLOTS, 4 PARTS UNITS] f32, zero beyond the experts' width
// routing  [tokens, SLOTS] of (expert, weight as f32 bits)
// weights  for each expert: down [HIDDEN, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl) (lib/expert_pages.wgsl)
// scales   [experts, SCALE_ROWS, SCALE_COLUMNS] f32, for fp8
// y        [tokens, Y_STRIDE] f32, columns 0 .. HIDDEN; with RESIDUAL the sums are added to it
//
// Dispatch: (tokens, ceil(HIDDEN / (ROWS * TEAMS))) workgroups of WORKGROUP, tokens first, so that those who share an expert read its rows at about the same time. The
// SPLIT parts of a workgroup take slots, not columns, in turns: all lanes of a part read one expert. Experts not bound add nothing.
// RAGGED_ROWS: HIDDEN is no multiple of ROWS * TEAMS; RAGGED_UNITS: UNITS is no multiple of LANES * UNROLL.
// Sums are f32, in an order that depends on the shapes only; a 128-block's scale and the slot's weight multiply partial sums.
#include "lib/expert_units.wgsl"
#include "lib/row_teams.wgsl"

@group(0) @binding(0) var<storage, read> h: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif

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

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  let block = group.y;
  let lane = local % LANES;
  let team = local / LANES % TEAMS;
  let split = local / (LANES * TEAMS);
  let first = (block * TEAMS + team) * ROWS;
#if WEIGHT_FORMAT == fp8
  // ROWS rows from a multiple of ROWS share their scales.
  let scale_row = min(first, HIDDEN - 1u) / 128u;
#endif
  var sums: array<f32, SUMS>;
  for (var slot = split; slot < SLOTS; slot += SPLIT) {
    let route = routing[token * SLOTS + slot];
    if (!expert_bound(route.x)) {
      continue;
    }
    let page = expert_page(route.x);
    let expert_row = expert_in_page(route.x) * HIDDEN;
    let weight = bitcast<f32>(route.y) * WEIGHT_FACTOR;
    let vectors = (token * SLOTS + slot) * UNITS * PARTS;
#if WEIGHT_FORMAT == fp8
    let row_scales = (route.x * SCALE_ROWS + scale_row) * SCALE_COLUMNS;
#endif
    for (var start = lane; start < UNITS; start += LANES * UNROLL) {
      var at: array<u32, LOADS>;
#unroll u < UNROLL
#if RAGGED_UNITS
        let unit = min(start + u * LANES, UNITS - 1u);
#else
        let unit = start + u * LANES;
#endif
#unroll r < ROWS
#if RAGGED_ROWS
          // The last team repeats the last row rather than reading past the end.
          at[u * ROWS + r] = (expert_row + min(first + r, HIDDEN - 1u)) * UNITS + unit;
#else
          at[u * ROWS + r] = (expert_row + first + r) * UNITS + unit;
#endif
#endunroll
#endunroll
      let words = page_units(page, at);
#unroll u < UNROLL
#if RAGGED_UNITS
        let unit = min(start + u * LANES, UNITS - 1u);
        var factor = select(0.0, weight, start + u * LANES < UNITS);
#else
        let unit = start + u * LANES;
        var factor = weight;
#endif
#if WEIGHT_FORMAT == fp8
        factor *= scales[row_scales + unit / SCALE_UNITS];
#endif
        var products = array<f32, ROWS>();
#unroll part < PARTS
          let vector = h[vectors + unit * PARTS + part];
#unroll r < ROWS
            products[r] = add_dot(products[r], decode_part(words[u * ROWS + r], part), vector);
#endunroll
#endunroll
#unroll r < ROWS
          sums[r] += products[r] * factor;
#endunroll
#endunroll
    }
  }

#if SPLIT == 1
#unroll r < ROWS
    let sum = lanes_sum(sums[r]);
    if (lane == r % LANES) {
      store(first + r, token, sum);
    }
#endunroll
#else
#unroll r < ROWS
    let sum = lanes_sum(sums[r]);
    if (lane == r % LANES) {
      split_sums[(split * TEAMS + team) * SUMS + r] = sum;
    }
#endunroll
  workgroupBarrier();
  for (var i = local; i < TEAMS * ROWS; i += WORKGROUP) {
    var sum = 0.0;
    for (var s = 0u; s < SPLIT; s++) {
      sum += split_sums[(s * TEAMS + i / ROWS) * SUMS + i % ROWS];
    }
    store(block * TEAMS * ROWS + i, token, sum);
  }
#endif
}
