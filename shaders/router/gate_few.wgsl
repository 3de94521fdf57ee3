// The gate of a MoE layer in one dispatch, for a few tokens: the norm of x, the experts' logits, and the choice of experts by lib/route.wgsl.
//
// x       [tokens, X_STRIDE] f32, columns 0 .. 4 PARTS UNITS, zero from K on
// weights [EXPERTS, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl); scales [ceil(EXPERTS / 128), SCALE_COLUMNS] f32, for fp8
// gamma   [4 PARTS UNITS] f32: logits are weights . (x * gamma / sqrt(mean(x^2) + EPSILON))
// normed  [tokens, NORMED_STRIDE] f32, with NORMED: that input is written out, to the next multiple of 4
// bias, routing: lib/route.wgsl
// board   [tokens, EXPERTS + 1] u32, zeros before and after (lib/board.wgsl): each logit, then how many there are
//
// Dispatch: (ceil(EXPERTS / ROWS), tokens) workgroups of WORKGROUP. Rows beyond the batch's count are left as they are.
// RAGGED_ROWS: EXPERTS is no multiple of ROWS; RAGGED_UNITS: UNITS is no multiple of STEP * UNROLL. SPLIT is at least 2.
//
// The workgroup that puts up the last logit chooses for all.
#include "lib/batch.wgsl"
#include "lib/board.wgsl"
#include "lib/row_sums.wgsl"
#include "lib/route.wgsl"

const VECTORS: u32 = (K + 3u) / 4u;
// Workgroups of a token, and what each of them writes of the normed row.
const GROUPS: u32 = (EXPERTS + ROWS - 1u) / ROWS;
const SHARE: u32 = (VECTORS + GROUPS - 1u) / GROUPS;

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> weights: array<Unit>;
@group(0) @binding(2) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> batch: array<u32>;
@group(0) @binding(4) var<storage, read_write> routing: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> board: array<atomic<u32>>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(6) var<storage, read> scales: array<f32>;
#endif
#if BIAS
@group(0) @binding(7) var<storage, read> bias: array<f32>;
#endif
#if NORMED
@group(0) @binding(8) var<storage, read_write> normed: array<vec4<f32>>;
#endif

var<workgroup> is_last: u32;

fn router_logit(token: u32, expert: u32) -> f32 {
  return taken(token * (EXPERTS + 1u) + expert, 0u);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
  if (token >= token_count()) {
    return;
  }
  let lane = local % LANES;
  let split = local / LANES;
  let first = group.x * ROWS;
  let sums = row_sums(first, token, split, lane);
#unroll i < SUMS
    let sum = lanes_sum(sums[i]);
    if (lane == i % LANES) {
      split_sums[split * SUMS + i] = sum;
    }
#endunroll
  workgroupBarrier();
  var squares = 0.0;
  for (var s = 0u; s < SPLIT; s++) {
    squares += split_sums[s * SUMS + ROWS];
  }
  let factor = inverseSqrt(squares / f32(K) + EPSILON);
  if (local < ROWS && first + local < EXPERTS) {
    var sum = 0.0;
    for (var s = 0u; s < SPLIT; s++) {
      sum += split_sums[s * SUMS + local];
    }
    put_up(token * (EXPERTS + 1u) + first + local, sum * factor);
    if (arrives_last(token * (EXPERTS + 1u) + EXPERTS, EXPERTS)) {
      is_last = 1u;
    }
  }
#if NORMED
  let base = token * (X_STRIDE / 4u);
  for (var v = group.x * SHARE + local; v < min((group.x + 1u) * SHARE, VECTORS); v += WORKGROUP) {
    // The order of rmsNorm/rmsNorm.wgsl.
    normed[token * (NORMED_STRIDE / 4u) + v] = (x[base + v] * factor) * gamma[v];
  }
#endif
  if (workgroupUniformLoad(&is_last) == 1u) {
    route(token, local);
  }
}
