// After the sampling of a step that verifies drafts: how many of each sequence's were right. A draft is right if it is the token chosen after the row before it, and so were the drafts
// before it. What was chosen after a wrong one becomes NO_TOKEN, so that reading the ring tells the host as well.
//
// batch        lib/batch.wgsl, as embedding/embedding.wgsl leaves it; the outputs of a sequence stand together, those with given tokens first
// last_drafts  [MAX_DRAFTS, DRAFT_STRIDE] u32, by sequence slot: the drafts that were verified
// ring         [.., RING_ROWS] u32 as sample/tiles.wgsl leaves it
// latest       [sequence slots] u32: becomes the token after the last row that stands
// settled      [sequence slots, 2] u32: becomes the position of the first verified row, and how many rows behind it stand
//
// Dispatch: one workgroup of 64.
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> last_drafts: array<u32>;
@group(0) @binding(2) var<storage, read_write> ring: array<u32>;
@group(0) @binding(3) var<storage, read_write> latest: array<u32>;
@group(0) @binding(4) var<storage, read_write> settled: array<vec2<u32>>;

const NO_TOKEN: u32 = 0xffffffffu;

// Whether an output is one of the sequence's whose token was chosen.
fn chose(output: u32, sequence: u32) -> bool {
  return output < output_count() && given_token(output) == CHOSEN && token_sequence(output_row(output)) == sequence;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  for (var first = local; first < output_count(); first += 64u) {
    let sequence = token_sequence(output_row(first));
    if (!chose(first, sequence) || (first > 0u && chose(first - 1u, sequence))) {
      continue;
    }
    let chosen = ring_row() * RING_ROWS + first;
    var right = 0u;
    while (right < MAX_DRAFTS && chose(first + right + 1u, sequence) && last_drafts[right * DRAFT_STRIDE + sequence] == ring[chosen + right]) {
      right++;
    }
    latest[sequence] = ring[chosen + right];
    settled[sequence] = vec2<u32>(token_position(output_row(first)), right);
    for (var wrong = right + 1u; chose(first + wrong, sequence); wrong++) {
      ring[chosen + wrong] = NO_TOKEN;
    }
  }
}
