// y[t] = x[t] * gamma / sqrt(mean(x[t]^2) + EPSILON), over COLS columns.
//
// x     [tokens, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + COLS; what follows them is not used
// gamma [ceil(COLS / 4) * 4] f32
// y     [tokens, Y_STRIDE] f32 from column Y_OFFSET on; written to the next multiple of 4, zeros beyond COLS. Not x's buffer.
//
// Dispatch: one workgroup of WORKGROUP a token. Offsets and strides are multiples of 4.
// Sums are f32, or with EXACT exact.
#include "lib/rms.wgsl"

const VECTORS: u32 = (COLS + 3u) / 4u;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

fn load(base: u32, vector: u32) -> vec4<f32> {
  let columns = vec4<u32>(vector * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(0.0), x[base + vector], columns < vec4<u32>(COLS));
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
  let token = group.x;
  let x_base = (token * X_STRIDE + X_OFFSET) / 4u;
  let y_base = (token * Y_STRIDE + Y_OFFSET) / 4u;
  var squares = no_squares();
  for (var i = local; i < VECTORS; i += WORKGROUP) {
    squares = add_squares(squares, load(x_base, i));
  }
  let factor = rms_factor(squares, local, COLS);
  for (var i = local; i < VECTORS; i += WORKGROUP) {
    let columns = vec4<u32>(i * 4u) + vec4<u32>(0u, 1u, 2u, 3u);
    // The factor first, then gamma, as in published code: ratios of bf16 weights make exact ties of the quantizer, which another order would turn.
    y[y_base + i] = select(vec4<f32>(0.0), (load(x_base, i) * factor) * gamma[i], columns < vec4<u32>(COLS));
  }
}
