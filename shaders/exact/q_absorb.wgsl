// Queries in the latent space, summed exactly (lib/exactSum.wgsl): out[t, h, c] = sum over d of q[t, h, d] * W[h (NOPE + VALUE) + d, c], and the rotated query part beside it:
// mla/q_absorb.wgsl, the same on every device.
//
// q           [tokens, Q_STRIDE] f32, per head [NOPE | ROPE]
// weights     kv_b_proj [HEADS * (NOPE + VALUE), 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// rope_table  [positions, ROPE / 2] of (cos, sin)
// out         [tokens, OUT_STRIDE] f32, per head [LATENT | ROPE]
//
// Dispatch: (HEADS, tokens) workgroups of 32; rows beyond the batch's count are left as they are.
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"
#include "lib/exactSum.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> rope_table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> q: array<f32>;
@group(0) @binding(3) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(5) var<storage, read> scales: array<f32>;
#endif

fn product(w: vec4<f32>, query: f32) -> ExactSum {
  let zero = vec4<f32>(0.0);
  return exact_add_products(ExactSum(zero, zero), w, vec4<f32>(query));
}

// a * c + b * d
fn turned(a: f32, c: f32, b: f32, d: f32) -> f32 {
  let sum = exact_add_products(product(vec4<f32>(a), c), vec4<f32>(b), vec4<f32>(d));
  return rounded(sum).x;
}

@compute @workgroup_size(32)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.y;
  if (token >= token_count()) {
    return;
  }
  let head = group.x;
  let query = token * Q_STRIDE + head * (NOPE + ROPE);
  let result = token * OUT_STRIDE + head * (LATENT + ROPE);
  for (var chunk = local; chunk < CHUNKS; chunk += 32u) {
    let zero = ExactSum(vec4<f32>(0.0), vec4<f32>(0.0));
    var sums = array<ExactSum, 4>(zero, zero, zero, zero);
    for (var d = 0u; d < NOPE; d++) {
      let row = head * (NOPE + VALUE) + d;
      let values = load_chunk(row * CHUNKS + chunk);
      var factor = vec4<f32>(WEIGHT_FACTOR);
#if WEIGHT_FORMAT == fp8
      factor *= scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
      for (var v = 0u; v < 4u; v++) {
        sums[v] = exact_add_scaled(sums[v], product(values[v], q[query + d]), factor);
      }
    }
    for (var v = 0u; v < 4u; v++) {
      let columns = rounded(sums[v]);
      for (var i = 0u; i < 4u; i++) {
        let column = chunk * 16u + v * 4u + i;
        if (column < LATENT) {
          out[result + column] = columns[i];
        }
      }
    }
  }
  for (var pair = local; pair < ROPE / 2u; pair += 32u) {
    let turn = rope_table[token_position(token) * (ROPE / 2u) + pair];
    let a = q[query + NOPE + pair * 2u];
    let b = q[query + NOPE + pair * 2u + 1u];
    out[result + LATENT + pair * 2u] = turned(a, turn.x, -b, turn.y);
    out[result + LATENT + pair * 2u + 1u] = turned(a, turn.y, b, turn.x);
  }
}
