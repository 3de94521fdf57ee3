// Chooses each token's experts and their weights from their logits, as lib/route.wgsl says.
//
// logits  [tokens, LOGITS_STRIDE] f32, columns 0 .. EXPERTS
// bias, routing: lib/route.wgsl
//
// Dispatch: a workgroup of WORKGROUP for each token; rows beyond the batch's count are left as they are.
#include "lib/batch.wgsl"
#include "lib/route.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> routing: array<vec2<u32>>;
#if BIAS
@group(0) @binding(3) var<storage, read> bias: array<f32>;
#endif

fn router_logit(token: u32, expert: u32) -> f32 {
  return logits[token * LOGITS_STRIDE + expert];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  route(token, local);
}
