// Where a position's row lies in a layer's paged latent cache. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> block_table: array<u32>;   [sequences, BLOCKS_PER_SEQUENCE]
//
// Constants: BLOCKS_PER_SEQUENCE, BLOCK_SIZE, CACHE_FORMAT = "f32" | "f16" | "fp8", CACHE_ROW (units from one row to the next: vectors of four elements, with fp8
// words). Layout: packages/kernels/src/kvRow.ts.

#if CACHE_FORMAT == fp8
// A row's words: four codes of the latent each, a scale for every 128 of its columns, pairs of bf16 of the key part.
const CODE_WORDS: u32 = (LATENT + 3u) / 4u;
const SCALE_WORDS: u32 = (LATENT + 127u) / 128u;
const WORDS_PER_SCALE: u32 = 32u;
#endif

// Index of the row's first unit.
fn cache_row(sequence: u32, position: u32) -> u32 {
  let block = block_table[sequence * BLOCKS_PER_SEQUENCE + position / BLOCK_SIZE];
  return (block * BLOCK_SIZE + position % BLOCK_SIZE) * CACHE_ROW;
}
