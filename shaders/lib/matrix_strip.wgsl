// A strip of a product for a batch: 16 FRAGMENTS rows of FP8 weights times TOKEN_FRAGMENTS blocks of 16 rows of x, by subgroup matrices (lib/subgroup_matrix.wgsl). Where
// lib/matrix_tile.wgsl shares operands among the subgroups of a workgroup, for prefill, here each subgroup has its own: there is nothing to wait for but memory, little workgroup memory is
// taken, and so many subgroups run at once that reading weights is what takes the time. x comes from storage, where its fragments lie in one piece (HALVES_BLOCKS).
//
// The including shader says where operands come from and results go:
//
//   @group(0) @binding(n) var<storage, read> halves: array<vec4<u32>>;   as lib/matrix_halves.wgsl lays them out, with HALVES_BLOCKS
//   fn weight_row(fragment: u32, n: u32) -> u32           which stored row of weights row n of a fragment is
//   fn weight_vectors(at: array<u32, LOADS>) -> array<Unit, LOADS>   vectors of 16 codes, all loads at once
//   fn first_block() -> u32                               the first of the blocks of x
//   fn block_scale(fragment: u32, block: u32) -> f32      what 128 columns of a fragment's weights are multiplied by
//   fn write_result(m: u32, n: u32, value: f32)           a result; m or n may be past the end
//
// Precision: as lib/matrix_tile.wgsl. With GATE_UP fragments are 16 rows of gate, the same of up, and so on, and results are silu(gate) * up: 8 FRAGMENTS of them.
// Constants: FRAGMENTS; STORED, 2 or less of them, GROUPS of which make FRAGMENTS; TOKEN_FRAGMENTS; STRIP_SUBGROUPS, which take blocks of 128 columns in turn; PRODUCTS = 1 | 2; LOADS = 2 FRAGMENTS; X_FRAGMENTS = 4 PRODUCTS TOKEN_FRAGMENTS;
// CHUNKS; RAGGED_STRIP, they are no multiple of 8 STRIP_SUBGROUPS; GATE_UP; those of lib/matrix_halves.wgsl. Dispatch: workgroups of THREADS = 32 STRIP_SUBGROUPS in one dimension.
// Workgroup memory: STRIP_SUBGROUPS times 2304, or 2560 bytes for two fragments.
#include "lib/silu.wgsl"
#include "lib/matrix_halves.wgsl"
#include "lib/unit.wgsl"

const THREADS: u32 = 32u * STRIP_SUBGROUPS;
// Blocks of 128 columns, which share a scale.
const BLOCKS: u32 = (CHUNKS + 7u) / 8u;

// 64 columns of 16 rows are staged at a time: 8 halves an element, and one element more, so that eight rows lie in different banks.
const OPERAND_STRIDE: u32 = 9u;
const SUM_STRIDE: u32 = 5u;
const SUM_PLACES: u32 = 16u * SUM_STRIDE;
// A subgroup's.
const AREA: u32 = max(16u * OPERAND_STRIDE, STORED * SUM_PLACES);
var<workgroup> tile: array<vec4<u32>, STRIP_SUBGROUPS * AREA>;

// Of the halves that a fragment takes, and of those of 16 columns to the next ones.
const X_FRAGMENT: u32 = 32u;
const X_BLOCK: u32 = 16u * HALVES_OCTETS;
const UNIT: f32 = 256.0;

#include "lib/subgroup_matrix.wgsl"

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

// From number `vector` of their rows on; columns past the end count as zero.
fn load_codes(rows: array<u32, LOADS>, vector: u32) -> array<Unit, LOADS> {
  var at = rows;
#unroll i < LOADS
  at[i] += min(vector, CHUNKS - 1u);
#endunroll
  var words = weight_vectors(at);
#if RAGGED_STRIP
  if (vector >= CHUNKS) {
#unroll i < LOADS
    words[i] = vec4<u32>(0u);
#endunroll
  }
#endif
  return words;
}

// Units must not be zero, by which sums are divided.
fn unit_of(fragment: u32, block: u32) -> f32 {
  let scale = block_scale(fragment, block);
  return select(scale, 1e-20, abs(scale) < 1e-20);
}

// Of all subgroups.
fn total(fragment: u32, n: u32, m: u32) -> f32 {
  var sum = 0.0;
#unroll s < STRIP_SUBGROUPS
  sum += bitcast<f32>(tile[s * AREA + fragment * SUM_PLACES + n * SUM_STRIDE + m / 4u][m % 4u]);
#endunroll
  return sum;
}

// The whole of it. `blocks` is BLOCKS, or 0 for a workgroup with nothing to do: the same for all, and not known to the compiler, lest one unroll the loop.
fn multiply_strip(local: u32, blocks: u32) {
  let lane = local % 32u;
  let subgroup = subgroup_number(local);
  let area = subgroup * AREA;
  let vector = lane % 4u;
  let staged = area + lane / 4u * OPERAND_STRIDE + vector * 2u;
  let x_place = first_block() * X_BLOCK;
  // [FRAGMENTS, TOKEN_FRAGMENTS] sums of 16 x 16.
  var sums: array<Sum, FRAGMENTS * TOKEN_FRAGMENTS>;
  var units: array<f32, FRAGMENTS>;
  // [FRAGMENTS, 2]: a lane has rows lane / 4 and lane / 4 + 8 of each fragment.
  var rows: array<u32, LOADS>;
#unroll i < LOADS
  rows[i] = weight_row(i / 2u, lane / 4u + i % 2u * 8u) * CHUNKS;
#endunroll
#unroll f < FRAGMENTS
  units[f] = unit_of(f, min(subgroup, BLOCKS - 1u));
#endunroll
  // Of 128 columns, 64 each.
  var words: array<array<Unit, LOADS>, 2>;
  words[0] = load_codes(rows, subgroup * 8u + vector);
  words[1] = load_codes(rows, subgroup * 8u + 4u + vector);
  for (var turn = 0u; turn < blocks; turn += STRIP_SUBGROUPS) {
    let block = min(turn + subgroup, BLOCKS - 1u);
    let next = (turn + subgroup + STRIP_SUBGROUPS) * 8u + vector;
#if WHOLE_LINES
    // Whole lines of memory together, while these are multiplied.
    let next_words = array<array<Unit, LOADS>, 2>(load_codes(rows, next), load_codes(rows, next + 4u));
#endif
#unroll f < FRAGMENTS
    let unit = unit_of(f, block);
    let factor = units[f] / unit;
    units[f] = unit;
#unroll t < TOKEN_FRAGMENTS
    sums[f * TOKEN_FRAGMENTS + t] = scale_sum(sums[f * TOKEN_FRAGMENTS + t], factor);
#endunroll
#endunroll
#unroll piece < 2
    // The rest of x first, its products being the smaller ones.
    let x_piece = x_place + (block * 8u + piece * 4u) * X_FRAGMENT;
#if SUBGROUP_MATRIX == hardware
    // [TOKEN_FRAGMENTS, PRODUCTS, 4], kept for all fragments of weights.
    var x: array<Right, X_FRAGMENTS>;
#unroll t < TOKEN_FRAGMENTS
#unroll product < PRODUCTS
#unroll k < 4
    x[(t * PRODUCTS + product) * 4u + k] = load_right_stored(x_piece + t * X_BLOCK + (PRODUCTS - 1u - product) * HALVES_REST + k * X_FRAGMENT);
#endunroll
#endunroll
#endunroll
#endif
#unroll f < FRAGMENTS
    // The last products are done with the tile.
    workgroupBarrier();
    stage(staged, words[piece][2u * f]);
    stage(staged + 8u * OPERAND_STRIDE, words[piece][2u * f + 1u]);
    workgroupBarrier();
#if !WHOLE_LINES
    if (f == FRAGMENTS - 1u) {
      // While these are multiplied, and the other 64 columns.
      words[piece] = load_codes(rows, next + piece * 4u);
    }
#endif
#if SUBGROUP_MATRIX == hardware
#unroll k < 4
    let weights_of = load_left(area + 2u * k);
#unroll t < TOKEN_FRAGMENTS
#unroll product < PRODUCTS
    sums[f * TOKEN_FRAGMENTS + t] = multiply_add(weights_of, x[(t * PRODUCTS + product) * 4u + k], sums[f * TOKEN_FRAGMENTS + t]);
#endunroll
#endunroll
#endunroll
#else
    for (var k = 0u; k < times(4u); k++) {
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

#unroll t < TOKEN_FRAGMENTS
#unroll group < GROUPS
  workgroupBarrier();
#unroll f < STORED
  const number = group * STORED + f;
  store_sum(area + f * SUM_PLACES, scale_sum(sums[number * TOKEN_FRAGMENTS + t], units[number]), lane);
#endunroll
  workgroupBarrier();
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
#endunroll
#endunroll
}

fn x_unit(m: u32) -> f32 {
  return bitcast<f32>(halves[HALVES_POWERS + first_block() * 16u + m].x) * UNIT;
}
