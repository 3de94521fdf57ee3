// A strip of a product for a batch: 16 FRAGMENTS rows of weights (fp8 or bf16) times TOKEN_FRAGMENTS blocks of 16 rows of x, by subgroup matrices (lib/subgroup_matrix.wgsl). Where
// lib/matrix_tile.wgsl shares operands among the subgroups of a workgroup, for prefill, here each subgroup has its own: there is nothing to wait for but memory, little workgroup memory is
// taken, and so many subgroups run at once that reading weights is what takes the time. x comes from storage, where its fragments lie in one piece (HALVES_BLOCKS).
//
// The including shader says where operands come from and results go:
//
//   @group(0) @binding(n) var<storage, read> halves: array<vec4<u32>>;   as lib/matrix_halves.wgsl lays them out, with HALVES_BLOCKS
//   fn weight_row(fragment: u32, n: u32) -> u32           which stored row of weights row n of a fragment is
//   fn weight_vectors(at: array<u32, LOADS>) -> array<Unit, LOADS>   vectors of 16 bytes, all loads at once
//   fn first_block() -> u32                               the first of the blocks of x
//   fn block_scale(fragment: u32, block: u32) -> f32      what 128 columns of a fragment's weights are multiplied by; for fp8
//   fn write_result(m: u32, n: u32, value: f32)           a result; m or n may be past the end
//
// Precision: as lib/matrix_tile.wgsl. BF16 has a wider range than f16: its weights are multiplied by a power of two for 16 rows of 64 columns, chosen as they come, and lose what is less than 2^-31 of the
// largest of them, or 2^-60 of the largest before. With GATE_UP fragments are 16 rows of gate, the same of up, and so on, and results are silu(gate) * up: 8 FRAGMENTS of them.
// Constants: FRAGMENTS; STORED, 2 or less of them, GROUPS of which make FRAGMENTS; TOKEN_FRAGMENTS; STRIP_SUBGROUPS, which take blocks of columns in turn; PIECES of a block (128 columns of fp8 or half of them, 64 of bf16), STEPS = 4 chunks of 16 columns each; PRODUCTS = 1 | 2;
// LOADS, vectors that a lane has of a fragment's piece: 2 of fp8, 4 of bf16; WHOLE_INPUTS, all of x that a block takes is loaded together (not emulated); EARLY, an invocation has a result at most of a fragment of x and STORED of
// weights; EARLY_RESULTS, what that is added to is loaded before the products by `fn early_result(m: u32, n: u32)`; X_FRAGMENTS = STEPS PRODUCTS TOKEN_FRAGMENTS; CHUNKS; RAGGED_STRIP, they are no multiple of STEPS PIECES STRIP_SUBGROUPS; WEIGHT_FORMAT; GATE_UP; those of lib/matrix_halves.wgsl. Dispatch: workgroups of THREADS = 32 STRIP_SUBGROUPS in one dimension.
// Workgroup memory: STRIP_SUBGROUPS times 2304, or 2560 bytes for two fragments.
#include "lib/silu.wgsl"
#include "lib/matrix_halves.wgsl"
#include "lib/unit.wgsl"

const THREADS: u32 = 32u * STRIP_SUBGROUPS;
// Chunks of 16 columns that are multiplied in a turn: of fp8 those that share a scale.
const BLOCK_CHUNKS: u32 = STEPS * PIECES;
const BLOCKS: u32 = (CHUNKS + BLOCK_CHUNKS - 1u) / BLOCK_CHUNKS;

// A block's columns are staged in PIECES: 8 halves an element, and one element more, so that eight rows lie in different banks.
const OPERAND_STRIDE: u32 = 2u * STEPS + 1u;
const OPERAND_PLACES: u32 = 16u * OPERAND_STRIDE;
const SUM_STRIDE: u32 = 5u;
const SUM_PLACES: u32 = 16u * SUM_STRIDE;
// A subgroup's.
const AREA: u32 = max(OPERAND_PLACES, STORED * SUM_PLACES);
var<workgroup> tile: array<vec4<u32>, STRIP_SUBGROUPS * AREA>;

// Of the halves that 16 rows take, and of those of 16 columns to the next ones.
const X_FRAGMENT: u32 = 32u;
const X_BLOCK: u32 = 16u * HALVES_OCTETS;
#if WEIGHT_FORMAT == fp8
const UNIT: f32 = 256.0;
const CHUNK_VECTORS: u32 = 1u;
#else
const UNIT: f32 = 1.0;
const CHUNK_VECTORS: u32 = 2u;
#endif
const ROW_VECTORS: u32 = CHUNKS * CHUNK_VECTORS;
// Vectors of 16 bytes of a piece's rows: lanes side by side have them.
const VECTORS: u32 = STEPS * CHUNK_VECTORS;
const LOADED_ROWS: u32 = 32u / VECTORS;

#include "lib/subgroup_matrix.wgsl"

#if WEIGHT_FORMAT == fp8
// Codes 0 and 2, and codes 1 and 3, of a word, as the halves of two words. Columns are multiplied in that order; those of x are in it too.
fn even_codes(word: u32) -> u32 {
  return ((word << 8u) & 0x80008000u) | ((word << 7u) & 0x3f803f80u);
}

fn odd_codes(word: u32) -> u32 {
  return (word & 0x80008000u) | ((word & 0x7f007f00u) >> 1u);
}

fn stage(place: u32, words: vec4<u32>) {
  tile[place] = vec4<u32>(even_codes(words.x), odd_codes(words.x), even_codes(words.y), odd_codes(words.y));
  tile[place + 1u] = vec4<u32>(even_codes(words.z), odd_codes(words.z), even_codes(words.w), odd_codes(words.w));
}

// Units must not be zero, by which sums are divided.
fn unit_of(fragment: u32, block: u32) -> f32 {
  let scale = block_scale(fragment, block);
  return select(scale, 1e-20, abs(scale) < 1e-20);
}
#else
// Weights are multiplied by a power of two that brings the largest of a fragment's piece to 2^15 .. 2^16, or to 2^-SLACK of that, and sums are kept in units of its inverse. It goes by the biased
// exponent of what comes to 2^15 .. 2^16, the top: the least one at which neither the power nor its inverse is out of range of f32.
const LEAST_TOP: u32 = 30u;
// How far below the top weights may stay before it is lowered, for sums must be multiplied then.
const SLACK: u32 = 8u;
// How far below the highest so far the top may get: sums of what came before must stay in range.
const MOST_LOWERED: u32 = 60u;

fn low_float(word: u32) -> f32 {
  return bitcast<f32>(word << 16u);
}

fn high_float(word: u32) -> f32 {
  return bitcast<f32>(word & 0xffff0000u);
}

fn largest_exponent(words: array<Unit, LOADS>) -> u32 {
  var most = 0.0;
#unroll i < LOADS
#unroll j < 4
  most = max(most, max(abs(low_float(words[i][j])), abs(high_float(words[i][j]))));
#endunroll
#endunroll
  return min(subgroup_most(bitcast<u32>(most)) >> 23u, 254u);
}

fn unit_of_top(top: u32) -> f32 {
  return bitcast<f32>((top - 15u) << 23u);
}

// Its inverse.
fn power_of_top(top: u32) -> f32 {
  return bitcast<f32>((269u - top) << 23u);
}

fn pair_of(word: u32, power: f32) -> u32 {
  return pack2x16float(vec2<f32>(low_float(word), high_float(word)) * power);
}

fn stage(place: u32, words: vec4<u32>, power: f32) {
  tile[place] = vec4<u32>(pair_of(words.x, power), pair_of(words.y, power), pair_of(words.z, power), pair_of(words.w, power));
}
#endif

// From number `vector` of their rows on; columns past the end count as zero.
fn load_codes(rows: array<u32, LOADS>, vector: u32) -> array<Unit, LOADS> {
  var at = rows;
#unroll i < LOADS
  at[i] += min(vector, ROW_VECTORS - 1u);
#endunroll
  var words = weight_vectors(at);
#if RAGGED_STRIP
  if (vector >= ROW_VECTORS) {
#unroll i < LOADS
    words[i] = vec4<u32>(0u);
#endunroll
  }
#endif
  return words;
}

// Of all subgroups.
fn total(fragment: u32, n: u32, m: u32) -> f32 {
  var sum = 0.0;
#unroll s < STRIP_SUBGROUPS
  sum += bitcast<f32>(tile[s * AREA + fragment * SUM_PLACES + n * SUM_STRIDE + m / 4u][m % 4u]);
#endunroll
  return sum;
}

#if EARLY
#if GATE_UP
const ROW_RESULTS: u32 = 16u;
#else
const ROW_RESULTS: u32 = 16u * STORED;
#endif
// Of a fragment of x, and STORED of weights.
const RESULTS: u32 = 16u * ROW_RESULTS;
// What an invocation's results are multiplied by.
var<private> early_units: array<f32, TOKEN_FRAGMENTS>;

// What results need besides products is loaded before these, which take as long.
fn early(local: u32) {
#unroll t < TOKEN_FRAGMENTS
  early_units[t] = x_unit(16u * t + min(local / ROW_RESULTS, 15u));
#endunroll
#if EARLY_RESULTS
  early_result(local / ROW_RESULTS, local % ROW_RESULTS);
#endif
}
#endif

// The whole of it. `blocks` is BLOCKS, or 0 for a workgroup with nothing to do: the same for all, and not known to the compiler, lest one unroll the loop.
fn multiply_strip(local: u32, blocks: u32) {
  let lane = local % 32u;
  let subgroup = subgroup_number(local);
  let area = subgroup * AREA;
  let vector = lane % VECTORS;
#if WEIGHT_FORMAT == fp8
  let staged = area + lane / VECTORS * OPERAND_STRIDE + vector * 2u;
#else
  let staged = area + lane / VECTORS * OPERAND_STRIDE + vector;
#endif
  let x_place = first_block() * X_BLOCK;
  // [FRAGMENTS, TOKEN_FRAGMENTS] sums of 16 x 16.
  var sums: array<Sum, FRAGMENTS * TOKEN_FRAGMENTS>;
  var units: array<f32, FRAGMENTS>;
#if WEIGHT_FORMAT == fp8
  // Of the next block: loaded while one is multiplied.
  var next_units: array<f32, FRAGMENTS>;
#else
  // Of each fragment's weights, the largest that fits and has been met: biased exponents.
  var tops: array<u32, FRAGMENTS>;
  var highest_tops: array<u32, FRAGMENTS>;
#endif
  // [FRAGMENTS, LOADS]
  var rows: array<array<u32, LOADS>, FRAGMENTS>;
  // [PIECES, FRAGMENTS, LOADS]
  var words: array<array<array<Unit, LOADS>, FRAGMENTS>, PIECES>;
#unroll f < FRAGMENTS
#unroll i < LOADS
  rows[f][i] = weight_row(f, lane / VECTORS + i * LOADED_ROWS) * ROW_VECTORS;
#endunroll
#unroll piece < PIECES
  words[piece][f] = load_codes(rows[f], subgroup * BLOCK_CHUNKS * CHUNK_VECTORS + piece * VECTORS + vector);
#endunroll
#endunroll
#unroll f < FRAGMENTS
#if WEIGHT_FORMAT == fp8
  next_units[f] = unit_of(f, min(subgroup, BLOCKS - 1u) * BLOCK_CHUNKS / 8u);
  units[f] = next_units[f];
#else
  tops[f] = LEAST_TOP;
  highest_tops[f] = LEAST_TOP;
#endif
#endunroll
#if EARLY
  early(local);
#endif
  for (var turn = 0u; turn < blocks; turn += STRIP_SUBGROUPS) {
    let block = min(turn + subgroup, BLOCKS - 1u);
    let next = (turn + subgroup + STRIP_SUBGROUPS) * BLOCK_CHUNKS * CHUNK_VECTORS + vector;
#if WHOLE_LINES
    // Whole lines of memory together, while these are multiplied.
    var next_words: array<array<array<Unit, LOADS>, FRAGMENTS>, PIECES>;
#unroll f < FRAGMENTS
#unroll piece < PIECES
    next_words[piece][f] = load_codes(rows[f], next + piece * VECTORS);
#endunroll
#endunroll
#endif
#if WEIGHT_FORMAT == fp8
#unroll f < FRAGMENTS
    let unit = next_units[f];
    let factor = units[f] / unit;
    units[f] = unit;
    next_units[f] = unit_of(f, min(block + STRIP_SUBGROUPS, BLOCKS - 1u) * BLOCK_CHUNKS / 8u);
#unroll t < TOKEN_FRAGMENTS
    sums[f * TOKEN_FRAGMENTS + t] = scale_sum(sums[f * TOKEN_FRAGMENTS + t], factor);
#endunroll
#endunroll
#endif
#if WHOLE_INPUTS
    // [PIECES, TOKEN_FRAGMENTS, PRODUCTS, STEPS]
    var whole_x: array<Right, PIECES * X_FRAGMENTS>;
#unroll piece < PIECES
#unroll t < TOKEN_FRAGMENTS
#unroll product < PRODUCTS
#unroll k < STEPS
    whole_x[piece * X_FRAGMENTS + (t * PRODUCTS + product) * STEPS + k] = load_right_stored(x_place + (block * BLOCK_CHUNKS + piece * STEPS + k) * X_FRAGMENT + t * X_BLOCK + (PRODUCTS - 1u - product) * HALVES_REST);
#endunroll
#endunroll
#endunroll
#endunroll
#endif
#unroll piece < PIECES
    // The rest of x first, its products being the smaller ones.
    let x_piece = x_place + (block * BLOCK_CHUNKS + piece * STEPS) * X_FRAGMENT;
#if SUBGROUP_MATRIX == hardware
    // [TOKEN_FRAGMENTS, PRODUCTS, STEPS], kept for all fragments of weights.
    var x: array<Right, X_FRAGMENTS>;
#if WHOLE_INPUTS
#unroll i < X_FRAGMENTS
    x[i] = whole_x[piece * X_FRAGMENTS + i];
#endunroll
#else
#unroll t < TOKEN_FRAGMENTS
#unroll product < PRODUCTS
#unroll k < STEPS
    x[(t * PRODUCTS + product) * STEPS + k] = load_right_stored(x_piece + t * X_BLOCK + (PRODUCTS - 1u - product) * HALVES_REST + k * X_FRAGMENT);
#endunroll
#endunroll
#endunroll
#endif
#endif
#unroll f < FRAGMENTS
    // The last products are done with the tile.
    workgroupBarrier();
#if WEIGHT_FORMAT == fp8
#unroll i < LOADS
    stage(staged + i * LOADED_ROWS * OPERAND_STRIDE, words[piece][f][i]);
#endunroll
#else
    let largest = largest_exponent(words[piece][f]);
    if (largest > tops[f] || largest + SLACK < tops[f]) {
      highest_tops[f] = max(highest_tops[f], largest);
      let top = max(max(largest, LEAST_TOP), max(highest_tops[f], MOST_LOWERED) - MOST_LOWERED);
      let factor = unit_of_top(tops[f]) * power_of_top(top);
      tops[f] = top;
#unroll t < TOKEN_FRAGMENTS
      sums[f * TOKEN_FRAGMENTS + t] = scale_sum(sums[f * TOKEN_FRAGMENTS + t], factor);
#endunroll
    }
    let power = power_of_top(tops[f]);
#unroll i < LOADS
    stage(staged + i * LOADED_ROWS * OPERAND_STRIDE, words[piece][f][i], power);
#endunroll
#endif
#if !WHOLE_LINES
    // While these are multiplied, and the other fragments.
    words[piece][f] = load_codes(rows[f], next + piece * VECTORS);
#endif
    workgroupBarrier();
#if SUBGROUP_MATRIX == hardware
#unroll k < STEPS
    let weights_of = load_left(area + 2u * k);
#unroll t < TOKEN_FRAGMENTS
#unroll product < PRODUCTS
    sums[f * TOKEN_FRAGMENTS + t] = multiply_add(weights_of, x[(t * PRODUCTS + product) * STEPS + k], sums[f * TOKEN_FRAGMENTS + t]);
#endunroll
#endunroll
#endunroll
#else
    for (var k = 0u; k < times(STEPS); k++) {
      let weights_of = load_left(area + 2u * k);
      for (var i = 0u; i < times(TOKEN_FRAGMENTS * PRODUCTS); i++) {
        let t = i / PRODUCTS;
        let x_of = load_right_stored(x_piece + t * X_BLOCK + (PRODUCTS - 1u - i % PRODUCTS) * HALVES_REST + k * X_FRAGMENT);
        sums[f * TOKEN_FRAGMENTS + t] = multiply_add(weights_of, x_of, sums[f * TOKEN_FRAGMENTS + t]);
      }
    }
#endif
#endunroll
#endunroll
#if WHOLE_LINES
    words = next_words;
#endif
  }

#if WEIGHT_FORMAT == bf16
#unroll f < FRAGMENTS
  units[f] = unit_of_top(tops[f]);
#endunroll
#endif
#unroll t < TOKEN_FRAGMENTS
#unroll group < GROUPS
  workgroupBarrier();
#unroll f < STORED
  const number = group * STORED + f;
  store_sum(area + f * SUM_PLACES, scale_sum(sums[number * TOKEN_FRAGMENTS + t], units[number]), lane);
#endunroll
  workgroupBarrier();
#if EARLY
  // Each invocation has a result at most.
  if (local < RESULTS) {
    let m = local / ROW_RESULTS;
    let n = local % ROW_RESULTS;
#if GATE_UP
    write_result(16u * t + m, ROW_RESULTS * group + n, silu(total(0u, n, m) * early_units[t]) * (total(1u, n, m) * early_units[t]));
#else
    write_result(16u * t + m, ROW_RESULTS * group + n, total(n / 16u, n % 16u, m) * early_units[t]);
#endif
  }
#else
#if GATE_UP
  for (var i = local; i < times(256u); i += THREADS) {
    let m = i / 16u;
    let of_x = x_unit(16u * t + m);
    write_result(16u * t + m, 16u * group + i % 16u, silu(total(0u, i % 16u, m) * of_x) * (total(1u, i % 16u, m) * of_x));
  }
#else
  for (var i = local; i < times(256u * STORED); i += THREADS) {
    let m = i / (16u * STORED);
    let n = i % (16u * STORED);
    write_result(16u * t + m, 16u * STORED * group + n, total(n / 16u, n % 16u, m) * x_unit(16u * t + m));
  }
#endif
#endif
#endunroll
#endunroll
}

fn x_unit(m: u32) -> f32 {
  return bitcast<f32>(halves[HALVES_POWERS + first_block() * 16u + m].x) * UNIT;
}
