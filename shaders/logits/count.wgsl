// Counts the tokens that a step chose for sequences that have penalties; given ones were not chosen.
//
// batch, params (lib/batch.wgsl, lib/sampling.wgsl)
// ring     [.., RING_ROWS] u32 as sample/tiles.wgsl leaves it
// history  [sequence slots, VOCAB] u32 (adjust.wgsl)
//
// Dispatch: one workgroup of 64.
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> params: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> ring: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  for (var row = local; row < output_count(); row += 64u) {
    let sequence = token_sequence(output_row(row));
    let token = ring[ring_row() * RING_ROWS + row];
    if (params[sequence * 4u + 2u].w != 0u && token < VOCAB && given_token(row) == CHOSEN) {
      atomicAdd(&history[sequence * VOCAB + token], 1u);
    }
  }
}
