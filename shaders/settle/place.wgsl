// Puts into the batch what only the device knows when the host writes it: where the last verified step (settle.wgsl) left its sequences, and what it chose there.
//
// batch    lib/batch.wgsl, but for what stands for something else (packages/kernels/src/batch.ts): positions FROM_FIRST + i are i behind the first row that was verified,
//          FROM_LAST + i behind the last that stands; tokens FROM_RING + o are what output o of the step in ring row batch[3] chose; an output row MOVES + r is as many
//          rows behind r as drafts of its sequence were right
// ring     [.., RING_ROWS] u32 as merge.wgsl leaves it
// settled  [sequence slots, 2] u32 as settle.wgsl leaves it
//
// Dispatch: one workgroup of 64. Outputs come first: they look at sequences alone, which stay.
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read_write> batch: array<u32>;
@group(0) @binding(1) var<storage, read> ring: array<u32>;
@group(0) @binding(2) var<storage, read> settled: array<vec2<u32>>;

const FROM_RING: u32 = 0xf0000000u;
const FROM_FIRST: u32 = 0x80000000u;
const FROM_LAST: u32 = 0xc0000000u;
const OFFSET: u32 = 0x3fffffffu;
const MOVES: u32 = 0x80000000u;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  for (var output = local; output < output_count(); output += 64u) {
    let row = output_row(output);
    if (row >= MOVES) {
      let first = row - MOVES;
      batch[BATCH_HEADER + 3u * MAX_TOKENS + output] = first + settled[token_sequence(first)].y;
    }
  }
  for (var token = local; token < token_count(); token += 64u) {
    let id = token_id(token);
    if (id >= FROM_RING && id < FROM_RING + RING_ROWS) {
      batch[BATCH_HEADER + token] = ring[batch[3] * RING_ROWS + id - FROM_RING];
    }
    let position = token_position(token);
    if (position >= FROM_FIRST) {
      let place = settled[token_sequence(token)];
      batch[BATCH_HEADER + MAX_TOKENS + token] = place.x + select(0u, place.y, position >= FROM_LAST) + (position & OFFSET);
    }
  }
}
