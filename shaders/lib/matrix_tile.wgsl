// A workgroup's share of a product: TILE_M rows of x times TILE_N rows of weights, by subgroup matrices (lib/subgroup_matrix.wgsl). x is split beforehand
// (matrix/halves.wgsl), so that staging it is copying.
//
// The including shader says where operands come from and results go:
//
//   @group(0) @binding(n) var<storage, read> halves: array<vec4<u32>>;   as lib/matrix_halves.wgsl lays them out
//   fn weight_row(n: u32) -> u32                          which stored row of weights row n of the tile is
//   fn weight_vectors(at: array<u32, STAGED_VECTORS>) -> array<Unit, STAGED_VECTORS>   of all those rows' WEIGHT_VECTORS vectors of 16 bytes, all loads at once
//   fn x_row(m: u32) -> u32                               which row of the halves row m of the tile is
//   fn block_scale(matrix: u32, n: u32, chunk: u32) -> f32  what the weights of a chunk of 16 columns are multiplied by, in rows n .. n + 16 FRAGMENTS_N of the tile;
//                                                         n may be past the end
//   fn write_result(m: u32, n: u32, value: f32)           a result; m or n may be past the end
//
// Precision: weights are exact in f16, e4m3 as 2^-8 times their value; x is the sum of PRODUCTS f16 numbers: with 2, less is lost than f32 sums round; with 1, x is
// rounded to f16, by up to 2^-11 of itself. Sums are kept in units of the block's scale: they are multiplied when it changes, in f32.
//
// With GATE_UP a tile's rows of weights are 16 of gate, the same 16 of up, and so on, and results silu(gate) * up: TILE_N / 2 of them.
// Constants: TILE_K = 32 | 64 columns at a time; FRAGMENTS_M and FRAGMENTS_N (even), fragments of 16 a subgroup; SUBGROUPS_M, SUBGROUPS_N; PRODUCTS = 1 | 2; STEPS = TILE_K / 16;
// STAGED_VECTORS and STAGED_OCTETS, what an invocation stages of weights and of x (of each product); CHUNKS; RAGGED_COLUMNS, they are no multiple of TILE_CHUNKS; WEIGHT_FORMAT = "fp8" | "f16"; GATE_UP; those of
// lib/matrix_halves.wgsl. Dispatch: workgroups of THREADS in one dimension. Workgroup memory: (TILE_N + PRODUCTS TILE_M) (2 TILE_K + 16) bytes.
#include "lib/silu.wgsl"
#include "lib/matrix_halves.wgsl"
#include "lib/unit.wgsl"

const TILE_M: u32 = 16u * FRAGMENTS_M * SUBGROUPS_M;
const TILE_N: u32 = 16u * FRAGMENTS_N * SUBGROUPS_N;
const THREADS: u32 = 32u * SUBGROUPS_M * SUBGROUPS_N;
const TILE_CHUNKS: u32 = TILE_K / 16u;
// A block's scale holds for so many chunks.
const SCALE_CHUNKS: u32 = 8u;

// 8 halves an element, and one element more, so that eight rows lie in different banks.
const TILE_OCTETS: u32 = TILE_K / 8u;
const OPERAND_STRIDE: u32 = TILE_OCTETS + 1u;
const X_PLACE: u32 = TILE_N * OPERAND_STRIDE;
// From one product's x to the next one's.
const X_PRODUCT: u32 = TILE_M * OPERAND_STRIDE;
// Two fragments side by side, likewise.
const SUM_STRIDE: u32 = 9u;
const SUMS_PLACES: u32 = SUBGROUPS_M * SUBGROUPS_N * 16u * SUM_STRIDE;
var<workgroup> tile: array<vec4<u32>, max((TILE_N + PRODUCTS * TILE_M) * OPERAND_STRIDE, SUMS_PLACES)>;

#if WEIGHT_FORMAT == fp8
const WEIGHT_COLUMNS: u32 = 16u;
const UNIT: f32 = 256.0;
#else
const WEIGHT_COLUMNS: u32 = 8u;
const UNIT: f32 = 1.0;
#endif
// Stored vectors of a row, and of a tile's row.
const WEIGHT_VECTORS: u32 = CHUNKS * 16u / WEIGHT_COLUMNS;
const TILE_VECTORS: u32 = TILE_K / WEIGHT_COLUMNS;

#include "lib/subgroup_matrix.wgsl"

#if WEIGHT_FORMAT == fp8
// Codes 0 and 2, and codes 1 and 3, of a word, as the halves of two words. Columns are multiplied in that order; those of x are in it too.
fn even_codes(word: u32) -> u32 {
  return ((word << 8u) & 0x80008000u) | ((word << 7u) & 0x3f803f80u);
}

fn odd_codes(word: u32) -> u32 {
  return (word & 0x80008000u) | ((word & 0x7f007f00u) >> 1u);
}
#endif

fn stage_weights(n: u32, vector: u32, words: vec4<u32>) {
#if WEIGHT_FORMAT == fp8
  let place = n * OPERAND_STRIDE + vector * 2u;
  tile[place] = vec4<u32>(even_codes(words.x), odd_codes(words.x), even_codes(words.y), odd_codes(words.y));
  tile[place + 1u] = vec4<u32>(even_codes(words.z), odd_codes(words.z), even_codes(words.w), odd_codes(words.w));
#else
  tile[n * OPERAND_STRIDE + vector] = words;
#endif
}

// The vectors that an invocation stages, from number `vector` of its rows on. Without branches: columns past the end count as zero.
fn load_weights(rows: array<u32, STAGED_VECTORS>, vector: u32) -> array<Unit, STAGED_VECTORS> {
  var at = rows;
#unroll i < STAGED_VECTORS
  at[i] += min(vector, WEIGHT_VECTORS - 1u);
#endunroll
  var words = weight_vectors(at);
#if RAGGED_COLUMNS
  if (vector >= WEIGHT_VECTORS) {
#unroll i < STAGED_VECTORS
    words[i] = vec4<u32>(0u);
#endunroll
  }
#endif
  return words;
}

// Units must not be zero, by which sums are divided.
fn unit(scale: f32) -> f32 {
  return select(scale, 1e-20, abs(scale) < 1e-20);
}

fn load_units(n: u32, chunk: u32) -> vec2<f32> {
#if GATE_UP
  return vec2<f32>(unit(block_scale(0u, n, chunk)), unit(block_scale(1u, n, chunk)));
#else
  return vec2<f32>(unit(block_scale(0u, n, chunk)));
#endif
}

fn x_unit(m: u32) -> f32 {
  return bitcast<f32>(halves[HALVES_POWERS + x_row(m)].x) * UNIT;
}

fn summed(place: u32, row: u32, column: u32) -> f32 {
  return bitcast<f32>(tile[place + row * SUM_STRIDE + column / 4u][column % 4u]);
}

// Writes 16 rows of two fragments next to each other, from row m of x and row n of the weights on.
fn write_pair(subgroup: u32, lane: u32, m: u32, n: u32, left: Sum, right: Sum, units: vec2<f32>) {
  let place = subgroup * 16u * SUM_STRIDE;
  workgroupBarrier();
  store_sum(place, left, lane);
  store_sum(place + 4u, right, lane);
  workgroupBarrier();
#if GATE_UP
  let column = lane % 16u;
  for (var row = lane / 16u; row < times(16u); row += 2u) {
    let of_x = x_unit(m + row);
    let gate = summed(place, row, column) * units.x * of_x;
    let up = summed(place, row, column + 16u) * units.y * of_x;
    write_result(m + row, n / 2u + column, silu(gate) * up);
  }
#else
  for (var row = 0u; row < times(16u); row++) {
    write_result(m + row, n + lane, summed(place, row, lane) * units.x * x_unit(m + row));
  }
#endif
}

// The whole of it. `chunks` is CHUNKS, or 0 for a workgroup with nothing to do: the same for all, and not known to the compiler, lest one unroll the loop.
fn multiply_tile(local: u32, chunks: u32) {
  let lane = local % 32u;
  let subgroup = subgroup_number(local);
  let first_m = subgroup / SUBGROUPS_N * (16u * FRAGMENTS_M);
  let first_n = subgroup % SUBGROUPS_N * (16u * FRAGMENTS_N);

  // [FRAGMENTS_M, FRAGMENTS_N] sums of 16 x 16: those with an even second number are in units.x, the others in units.y.
  var sums: array<Sum, FRAGMENTS_M * FRAGMENTS_N>;
  // What an invocation stages: vectors of weights and octets of x, THREADS / TILE_VECTORS and THREADS / TILE_OCTETS rows apart.
  let vector = local % TILE_VECTORS;
  let staged_row = local / TILE_VECTORS;
  let octet = local % TILE_OCTETS;
  let input_row = local / TILE_OCTETS;
  var at: array<u32, STAGED_OCTETS>;
  var rows: array<u32, STAGED_VECTORS>;
  var x: array<vec4<u32>, STAGED_OCTETS * PRODUCTS>;
#unroll i < STAGED_VECTORS
  rows[i] = weight_row(staged_row + i * (THREADS / TILE_VECTORS)) * WEIGHT_VECTORS;
#endunroll
  var words = load_weights(rows, vector);
#unroll i < STAGED_OCTETS
  at[i] = x_row(input_row + i * (THREADS / TILE_OCTETS)) * HALVES_OCTETS + octet;
#unroll product < PRODUCTS
  x[i * PRODUCTS + product] = halves[at[i] + product * HALVES_REST];
#endunroll
#endunroll
  var units = load_units(first_n, 0u);
  for (var start = 0u; start < chunks; start += TILE_CHUNKS) {
    // The last step's products are done with the tile.
    workgroupBarrier();
#unroll i < STAGED_VECTORS
    stage_weights(staged_row + i * (THREADS / TILE_VECTORS), vector, words[i]);
#endunroll
#unroll i < STAGED_OCTETS
#unroll product < PRODUCTS
    tile[X_PLACE + product * X_PRODUCT + (input_row + i * (THREADS / TILE_OCTETS)) * OPERAND_STRIDE + octet] = x[i * PRODUCTS + product];
#endunroll
#endunroll
    // One step ahead: what is loaded while a step is multiplied is staged for the next. The last step loads itself again.
    let next = select(start, start + TILE_CHUNKS, start + TILE_CHUNKS < chunks);
    words = load_weights(rows, next * 16u / WEIGHT_COLUMNS + vector);
#unroll i < STAGED_OCTETS
#unroll product < PRODUCTS
    x[i * PRODUCTS + product] = halves[at[i] + next * 2u + product * HALVES_REST];
#endunroll
#endunroll
    workgroupBarrier();
    if (start % SCALE_CHUNKS == 0u) {
      let last_units = units;
      units = load_units(first_n, start);
      if (any(units != last_units)) {
        let factors = last_units / units;
#unroll i < FRAGMENTS_M * FRAGMENTS_N
        sums[i] = scale_sum(sums[i], factors[i % 2u]);
#endunroll
      }
    }
#unroll k < STEPS
    var weights_of: array<Right, FRAGMENTS_N>;
#unroll n < FRAGMENTS_N
    weights_of[n] = load_right((first_n + 16u * n) * OPERAND_STRIDE + 2u * k);
#endunroll
#unroll product < PRODUCTS
    // The rest of x first, its products being the smaller ones.
    const place = X_PLACE + (PRODUCTS - 1u - product) * X_PRODUCT + 2u * k;
#unroll m < FRAGMENTS_M
    let left = load_left(place + (first_m + 16u * m) * OPERAND_STRIDE);
#unroll n < FRAGMENTS_N
    sums[m * FRAGMENTS_N + n] = multiply_add(left, weights_of[n], sums[m * FRAGMENTS_N + n]);
#endunroll
#endunroll
#endunroll
#endunroll
  }

#unroll m < FRAGMENTS_M
#unroll pair < PAIRS
  const n = 2u * pair;
  write_pair(subgroup, lane, first_m + 16u * m, first_n + 16u * n, sums[m * FRAGMENTS_N + n], sums[m * FRAGMENTS_N + n + 1u], units);
#endunroll
#endunroll
}
