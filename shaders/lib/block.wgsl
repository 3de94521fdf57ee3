// A blocked product in f32: a workgroup multiplies BLOCK_ROWS rows of weights with BLOCK_TOKENS rows of x, 32 columns at a time, which it
// stages in workgroup memory by columns. Each invocation has 8 rows of weights, in two halves of the block, times THREAD_TOKENS
// neighbouring rows of x.
//
// Constants: BLOCK_ROWS (64 or 128), BLOCK_TOKENS (16 to 128), THREAD_TOKENS (4 or 8); the workgroup has BLOCK_THREADS invocations. Needs
// lib/quads.wgsl's constants.
// Workgroup memory: 128 (BLOCK_ROWS + BLOCK_TOKENS) bytes.
#include "lib/quads.wgsl"

const THREADS_X: u32 = BLOCK_ROWS / 8u;
const THREADS_Y: u32 = BLOCK_TOKENS / THREAD_TOKENS;
const BLOCK_THREADS: u32 = THREADS_X * THREADS_Y;
// Quads of columns staged at a time.
const BLOCK_QUADS: u32 = 8u;
// What is staged in one go: a quad of columns of four rows.
const ROW_VECTORS: u32 = BLOCK_ROWS / 4u;
const TOKEN_VECTORS: u32 = BLOCK_TOKENS / 4u;
const WEIGHT_UNITS: u32 = ROW_VECTORS * BLOCK_QUADS;
const X_UNITS: u32 = TOKEN_VECTORS * BLOCK_QUADS;
// Of weights, that an invocation stages; of x it stages one, or none.
const THREAD_UNITS: u32 = WEIGHT_UNITS / BLOCK_THREADS;

var<workgroup> weight_block: array<vec4<f32>, 4u * WEIGHT_UNITS>;
var<workgroup> x_block: array<vec4<f32>, 4u * X_UNITS>;

// An invocation's sums: a column for each of four rows of x, with four rows of weights.
struct Sums {
  low0: mat4x4<f32>,
  high0: mat4x4<f32>,
#if THREAD_TOKENS == 8
  low1: mat4x4<f32>,
  high1: mat4x4<f32>,
#endif
}

// Where a quad's first column is kept; the others follow one line of the block apart. Vectors of a line are shuffled by quad, so that
// neighbouring invocations, which stage neighbouring quads, write to different banks.
fn weight_place(quad: u32, vector: u32) -> u32 {
  return quad * 4u * ROW_VECTORS + (vector ^ quad);
}

fn x_place(quad: u32, vector: u32) -> u32 {
  return quad * 4u * TOKEN_VECTORS + (vector ^ (quad & min(7u, TOKEN_VECTORS - 1u)));
}

fn stage_weight_quads(unit: u32, columns: mat4x4<f32>) {
  let place = weight_place(unit % BLOCK_QUADS, unit / BLOCK_QUADS);
  weight_block[place] = columns[0];
  weight_block[place + ROW_VECTORS] = columns[1];
  weight_block[place + 2u * ROW_VECTORS] = columns[2];
  weight_block[place + 3u * ROW_VECTORS] = columns[3];
}

fn stage_x_quads(unit: u32, columns: mat4x4<f32>) {
  let place = x_place(unit % BLOCK_QUADS, unit / BLOCK_QUADS);
  x_block[place] = columns[0];
  x_block[place + TOKEN_VECTORS] = columns[1];
  x_block[place + 2u * TOKEN_VECTORS] = columns[2];
  x_block[place + 3u * TOKEN_VECTORS] = columns[3];
}

fn add_products(sums: mat4x4<f32>, weights_of_rows: vec4<f32>, x_of_tokens: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    fma(weights_of_rows, vec4<f32>(x_of_tokens.x), sums[0]), fma(weights_of_rows, vec4<f32>(x_of_tokens.y), sums[1]),
    fma(weights_of_rows, vec4<f32>(x_of_tokens.z), sums[2]), fma(weights_of_rows, vec4<f32>(x_of_tokens.w), sums[3]));
}

// Adds the products of what is staged. `quads` is how many quads count: at most BLOCK_QUADS, and not a constant, which keeps compilers from
// unrolling everything (an instruction cache holds it once; lavapipe would compile for 20 s).
fn multiply_block(before: Sums, column: u32, row: u32, quads: u32) -> Sums {
  var sums = before;
  for (var quad = 0u; quad < quads; quad++) {
    let w = weight_place(quad, column);
    let x0 = x_place(quad, row * (THREAD_TOKENS / 4u));
#if THREAD_TOKENS == 8
    let x1 = x_place(quad, row * 2u + 1u);
#endif
    for (var k = 0u; k < 4u; k++) {
      let w_low = weight_block[w + k * ROW_VECTORS];
      let w_high = weight_block[w + k * ROW_VECTORS + THREADS_X];
      let first = x_block[x0 + k * TOKEN_VECTORS];
      sums.low0 = add_products(sums.low0, w_low, first);
      sums.high0 = add_products(sums.high0, w_high, first);
#if THREAD_TOKENS == 8
      let second = x_block[x1 + k * TOKEN_VECTORS];
      sums.low1 = add_products(sums.low1, w_low, second);
      sums.high1 = add_products(sums.high1, w_high, second);
#endif
    }
  }
  return sums;
}
