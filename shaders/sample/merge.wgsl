// The best of a row's tiles becomes the sequence's next token, unless that is given: then it is only noted.
//
// scratch as tiles.wgsl leaves it; batch (lib/batch.wgsl)
// latest  [sequence slots] u32: the token last sampled for the sequence
// ring    [.., RING_ROWS] u32: row ring_row() gets the tokens of this step, in the order of its outputs
//
// Dispatch: one workgroup of 64 a row. Ties go to the lower token; a row without any number in it gives token 0.
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> scratch: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read_write> latest: array<u32>;
@group(0) @binding(3) var<storage, read_write> ring: array<u32>;

var<workgroup> best_key: atomic<u32>;
var<workgroup> best_inverse: atomic<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.x;
  var best = vec2<u32>(0u, 0xffffffffu);
  for (var tile = local; tile < TILES; tile += 64u) {
    let other = scratch[row * (TILES + 2u) + 2u + tile];
    if (other.x > best.x) {
      best = other;
    }
  }
  atomicMax(&best_key, best.x);
  workgroupBarrier();
  if (best.x == atomicLoad(&best_key)) {
    atomicMax(&best_inverse, ~best.y);
  }
  workgroupBarrier();
  if (local == 0u && row < output_count()) {
    let token = select(~atomicLoad(&best_inverse), 0u, atomicLoad(&best_key) == 0u);
    let given = given_token(row);
    if (given == CHOSEN) {
      latest[token_sequence(output_row(row))] = token;
    }
    ring[ring_row() * RING_ROWS + row] = select(given, token, given == CHOSEN);
  }
}
