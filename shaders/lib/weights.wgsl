// Weights as stored in the checkpoint, 16 at a time. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> weights: array<vec4<u32>>;
//
// Constants and formats: lib/chunk.wgsl.
#include "lib/chunk.wgsl"

// The 16 weights of a chunk, in order, without WEIGHT_FACTOR.
fn load_chunk(chunk: u32) -> array<vec4<f32>, 4> {
  var words: array<vec4<u32>, VECTORS_PER_CHUNK>;
  for (var i = 0u; i < VECTORS_PER_CHUNK; i++) {
    words[i] = weights[chunk * VECTORS_PER_CHUNK + i];
  }
  return decode_chunk(words);
}
