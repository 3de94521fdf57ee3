// Where a position's row lies in a layer's paged latent cache. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> block_table: array<u32>;   [sequences, BLOCKS_PER_SEQUENCE]
//
// Constants: BLOCKS_PER_SEQUENCE, BLOCK_SIZE, CACHE_VECTORS (a row's elements / 4), CACHE_FORMAT = "f32" | "f16". Layout: packages/kernels/src/mla.ts.

// Index of the row's first vector of four elements.
fn cache_row(sequence: u32, position: u32) -> u32 {
  let block = block_table[sequence * BLOCKS_PER_SEQUENCE + position / BLOCK_SIZE];
  return (block * BLOCK_SIZE + position % BLOCK_SIZE) * CACHE_VECTORS;
}
