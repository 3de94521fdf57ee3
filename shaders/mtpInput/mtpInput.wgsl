// out[t] = [ rmsNorm(embedding[t]) | rmsNorm(hidden[source_row(t)]) ]: what the multi-token prediction module's eh_proj multiplies.
// The embedding comes first, as the weights want it; the paper's equation 21 (arXiv 2412.19437) writes it the other way round.
//
// embedding, hidden         [tokens, STRIDE] f32, COLS columns
// enorm_gamma, hnorm_gamma  [ceil(COLS / 4) * 4] f32
// batch                     lib/batch.wgsl
// out                       [tokens, OUT_STRIDE] f32, 2 COLS columns written
//
// Dispatch: [tokens, 2] workgroups of WORKGROUP; y = 0 does the embedding, y = 1 the hidden state.
// Sums are f32, or with EXACT exact.
#include "lib/batch.wgsl"
#include "lib/rms.wgsl"

const VECTORS: u32 = (COLS + 3u) / 4u;

@group(0) @binding(0) var<storage, read> embedding: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> hidden: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> enorm_gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> hnorm_gamma: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> batch: array<u32>;

fn load(row: u32, half: u32, vector: u32) -> vec4<f32> {
  let index = row * (STRIDE / 4u) + vector;
  var value: vec4<f32>;
  if (half == 0u) {
    value = embedding[index];
  } else {
    value = hidden[index];
  }
  let columns = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(0.0), value, columns < vec4<u32>(COLS));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
#endif
) {
#if SUBGROUPS
#if !EXACT
  lane_count = subgroup_size;
  lane = subgroup_lane;
#endif
#endif
  // Rows beyond the batch's go on from whatever theirs holds, and are never read.
  let row = select(group.x, source_row(group.x), group.y == 1u);
  var squares = no_squares();
  for (var i = local; i < VECTORS; i += WORKGROUP) {
    squares = add_squares(squares, load(row, group.y, i));
  }
  let factor = rms_factor(squares, local, COLS);
  for (var i = local; i < VECTORS; i += WORKGROUP) {
    var gamma: vec4<f32>;
    if (group.y == 0u) {
      gamma = enorm_gamma[i];
    } else {
      gamma = hnorm_gamma[i];
    }
    // In this order: see rmsNorm.wgsl.
    let value = (load(row, group.y, i) * factor) * gamma;
    // Scalars, because the second half begins wherever the first ends.
    for (var c = 0u; c < 4u; c++) {
      if (i * 4u + c < COLS) {
        out[group.x * OUT_STRIDE + group.y * COLS + i * 4u + c] = value[c];
      }
    }
  }
}
