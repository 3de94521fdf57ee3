// A workgroup's share of a product: TILE_M rows of x times TILE_N rows of weights, by subgroup matrices (lib/subgroup_matrix.wgsl).
//
// The including shader says where operands come from and results go:
//
//   fn weight_vector(n: u32, vector: u32) -> vec4<u32>   of the stored row of weights that is number n of the tile; vectors of 16 bytes, below WEIGHT_VECTORS
//   fn x_base(m: u32) -> u32                              where row m of x begins, in vectors of 4
//   fn x_vector(index: u32) -> vec4<f32>
//   fn block_scale(matrix: u32, chunk: u32) -> f32        what the weights of a chunk of 16 columns are multiplied by, the same for the whole tile
//   fn write_result(m: u32, n: u32, value: f32)           a result; m or n may be past the end
//
// Precision: weights are exact in f16, e4m3 as 2^-8 times their value. x becomes the sum of PRODUCTS f16 numbers, multiplied first by a power of two that brings the
// largest of the tile's 32 or 64 columns to between 512 and 32768: with 2, what is lost is 2^-22 of x or 2^-34 of the largest, less than f32 sums round; with 1, x
// is rounded to f16, by up to 2^-11 of itself. Sums are kept in units of block scale and power of two: they are multiplied when either changes, in f32.
//
// With GATE_UP a tile's rows of weights are 16 of gate, the same 16 of up, and so on, and results silu(gate) * up: TILE_N / 2 of them.
// Constants: TILE_K = 32 | 64 columns at a time; FRAGMENTS_M = 1 | 2 and FRAGMENTS_N = 2 | 4 fragments a subgroup; SUBGROUPS_M, SUBGROUPS_N; PRODUCTS = 1 | 2;
// CHUNKS; WEIGHT_FORMAT = "fp8" | "f16"; GATE_UP. Dispatch: workgroups of THREADS in one dimension. Workgroup memory: (TILE_N + PRODUCTS TILE_M) (2 TILE_K + 16) bytes.
#include "lib/silu.wgsl"

const TILE_M: u32 = 16u * FRAGMENTS_M * SUBGROUPS_M;
const TILE_N: u32 = 16u * FRAGMENTS_N * SUBGROUPS_N;
const THREADS: u32 = 32u * SUBGROUPS_M * SUBGROUPS_N;
const TILE_CHUNKS: u32 = TILE_K / 16u;

// 8 halves an element, and one element more, so that eight rows lie in different banks.
const OCTETS: u32 = TILE_K / 8u;
const OPERAND_STRIDE: u32 = OCTETS + 1u;
const X_PLACE: u32 = TILE_N * OPERAND_STRIDE;
const X_REST_PLACE: u32 = X_PLACE + TILE_M * OPERAND_STRIDE;
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
// Stored vectors of a row, of a tile's row, and those that one invocation stages; octets of x that it stages.
const WEIGHT_VECTORS: u32 = CHUNKS * 16u / WEIGHT_COLUMNS;
const TILE_VECTORS: u32 = TILE_K / WEIGHT_COLUMNS;
const STAGED_VECTORS: u32 = TILE_N * TILE_VECTORS / THREADS;
const STAGED_OCTETS: u32 = TILE_M * OCTETS / THREADS;

#include "lib/subgroup_matrix.wgsl"

// Bits of the largest |x| of the tile, for even and for odd steps.
var<workgroup> largest: array<atomic<u32>, 2>;

#if WEIGHT_FORMAT == fp8
// Codes 0 and 2, and codes 1 and 3, of a word, as the halves of two words. Columns are multiplied in that order; halves() puts those of x in it too.
fn even_codes(word: u32) -> u32 {
  return ((word << 8u) & 0x80008000u) | ((word << 7u) & 0x3f803f80u);
}

fn odd_codes(word: u32) -> u32 {
  return (word & 0x80008000u) | ((word & 0x7f007f00u) >> 1u);
}

fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xz), pack2x16float(a.yw), pack2x16float(b.xz), pack2x16float(b.yw));
}
#else
fn halves(a: vec4<f32>, b: vec4<f32>) -> vec4<u32> {
  return vec4<u32>(pack2x16float(a.xy), pack2x16float(a.zw), pack2x16float(b.xy), pack2x16float(b.zw));
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

// Rounded to the 11 bits that f16 has, where it is not subnormal. By bits: compilers drop conversions to f16 and back.
fn rounded(x: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>((bitcast<vec4<u32>>(x) + vec4<u32>(0x1000u)) & vec4<u32>(0xffffe000u));
}

fn stage_x(m: u32, octet: u32, power: f32, first: vec4<f32>, second: vec4<f32>) {
  let a = first * power;
  let b = second * power;
  let place = m * OPERAND_STRIDE + octet;
#if PRODUCTS == 2
  let near_a = rounded(a);
  let near_b = rounded(b);
  tile[X_PLACE + place] = halves(near_a, near_b);
  tile[X_REST_PLACE + place] = halves(a - near_a, b - near_b);
#else
  tile[X_PLACE + place] = halves(a, b);
#endif
}

fn largest_bits(a: vec4<f32>) -> u32 {
  let pair = max(abs(a.xy), abs(a.zw));
  return bitcast<u32>(max(pair.x, pair.y));
}

fn publish_largest(parity: u32, bits: u32, lane: u32) {
#if SUBGROUP_MATRIX == hardware
  let most = subgroupMax(bits);
  if (lane == 0u) {
    atomicMax(&largest[parity], most);
  }
#else
  atomicMax(&largest[parity], bits);
#endif
}

// The power of two that brings numbers up to `most` into range: the last one while that does.
fn fitting_power(last: f32, most: f32) -> f32 {
  let scaled = most * last;
  if ((scaled >= 512.0 && scaled <= 32768.0) || most == 0.0) {
    return last;
  }
  // To between 4096 and 8192, but by 2^24 at most: sums must stay in range as well.
  let exponent = min(266u - (bitcast<u32>(most) >> 23u), 151u);
  return bitcast<f32>(exponent << 23u);
}

// Units must not be zero, by which sums are divided.
fn unit(scale: f32, power: f32) -> f32 {
  return select(scale, 1e-20, abs(scale) < 1e-20) * UNIT / power;
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
    let gate = summed(place, row, column) * units.x;
    let up = summed(place, row, column + 16u) * units.y;
    write_result(m + row, n / 2u + column, silu(gate) * up);
  }
#else
  for (var row = 0u; row < times(16u); row++) {
    write_result(m + row, n + lane, summed(place, row, lane) * units.x);
  }
#endif
}

// Loads what an invocation stages next, from chunk `start` on: stored vectors of weights and octets of x, THREADS / TILE_VECTORS and THREADS / OCTETS rows apart.
fn load_step(
  local: u32,
  start: u32,
  x_rows: ptr<function, array<u32, STAGED_OCTETS>>,
  words: ptr<function, array<vec4<u32>, STAGED_VECTORS>>,
  x: ptr<function, array<vec4<f32>, 2u * STAGED_OCTETS>>,
) {
  // Without branches: columns past the end count as zero.
  let vector = start * 16u / WEIGHT_COLUMNS + local % TILE_VECTORS;
  for (var i = 0u; i < times(STAGED_VECTORS); i++) {
    let stored = weight_vector(local / TILE_VECTORS + i * (THREADS / TILE_VECTORS), min(vector, WEIGHT_VECTORS - 1u));
    (*words)[i] = select(vec4<u32>(0u), stored, vector < WEIGHT_VECTORS);
  }
  let inside = start * 4u + local % OCTETS * 2u < CHUNKS * 4u;
  for (var i = 0u; i < times(STAGED_OCTETS); i++) {
    let index = (*x_rows)[i] + select(0u, start * 4u, inside);
    (*x)[2u * i] = select(vec4<f32>(0.0), x_vector(index), inside);
    (*x)[2u * i + 1u] = select(vec4<f32>(0.0), x_vector(index + 1u), inside);
  }
}

fn load_scales(start: u32) -> vec2<f32> {
#if GATE_UP
  return vec2<f32>(block_scale(0u, start), block_scale(1u, start));
#else
  return vec2<f32>(block_scale(0u, start));
#endif
}

// The whole of it. `chunks` is CHUNKS, or 0 for a workgroup with nothing to do: the same for all, and not known to the compiler, lest one unroll the loop.
fn multiply_tile(local: u32, chunks: u32) {
  let lane = local % 32u;
  let subgroup = subgroup_number(local);
  let first_m = subgroup / SUBGROUPS_N * (16u * FRAGMENTS_M);
  let first_n = subgroup % SUBGROUPS_N * (16u * FRAGMENTS_N);
  let left_place = X_PLACE + first_m * OPERAND_STRIDE;
  let right_place = first_n * OPERAND_STRIDE;

  // Sums of 16 x 16: those with an even second number are of units.x, the others of units.y.
  var s00: Sum;
  var s01: Sum;
#if FRAGMENTS_N == 4
  var s02: Sum;
  var s03: Sum;
#endif
#if FRAGMENTS_M == 2
  var s10: Sum;
  var s11: Sum;
#if FRAGMENTS_N == 4
  var s12: Sum;
  var s13: Sum;
#endif
#endif
  var power = 1.0;
  var units = vec2<f32>(1.0);

  // One step ahead: what is loaded while a step is multiplied is staged for the next.
  var x_rows: array<u32, STAGED_OCTETS>;
  var words: array<vec4<u32>, STAGED_VECTORS>;
  var x: array<vec4<f32>, 2u * STAGED_OCTETS>;
  for (var i = 0u; i < times(STAGED_OCTETS); i++) {
    x_rows[i] = x_base(local / OCTETS + i * (THREADS / OCTETS)) + local % OCTETS * 2u;
  }
  load_step(local, 0u, &x_rows, &words, &x);
  var scales = load_scales(0u);
  for (var start = 0u; start < chunks; start += TILE_CHUNKS) {
    let parity = start / TILE_CHUNKS % 2u;
    var bits = 0u;
    for (var i = 0u; i < times(2u * STAGED_OCTETS); i++) {
      bits = max(bits, largest_bits(x[i]));
    }
    publish_largest(parity, bits, lane);
    // Also for the tile: the last step's products are done with it.
    workgroupBarrier();
    power = fitting_power(power, bitcast<f32>(atomicLoad(&largest[parity])));
    let last_units = units;
    units = vec2<f32>(unit(scales.x, power), unit(scales.y, power));
    for (var i = 0u; i < times(STAGED_VECTORS); i++) {
      stage_weights(local / TILE_VECTORS + i * (THREADS / TILE_VECTORS), local % TILE_VECTORS, words[i]);
    }
    for (var i = 0u; i < times(STAGED_OCTETS); i++) {
      stage_x(local / OCTETS + i * (THREADS / OCTETS), local % OCTETS, power, x[2u * i], x[2u * i + 1u]);
    }
    if (local == 0u) {
      atomicStore(&largest[1u - parity], 0u);
    }
    let next = start + TILE_CHUNKS;
    if (next < chunks) {
      load_step(local, next, &x_rows, &words, &x);
      scales = load_scales(next);
    }
    workgroupBarrier();
    if (any(units != last_units)) {
      let factors = last_units / units;
      s00 = scale_sum(s00, factors.x);
      s01 = scale_sum(s01, factors.y);
#if FRAGMENTS_N == 4
      s02 = scale_sum(s02, factors.x);
      s03 = scale_sum(s03, factors.y);
#endif
#if FRAGMENTS_M == 2
      s10 = scale_sum(s10, factors.x);
      s11 = scale_sum(s11, factors.y);
#if FRAGMENTS_N == 4
      s12 = scale_sum(s12, factors.x);
      s13 = scale_sum(s13, factors.y);
#endif
#endif
    }
    for (var k = 0u; k < times(OCTETS); k += 2u) {
      let w0 = load_right(right_place + k);
      let w1 = load_right(right_place + 16u * OPERAND_STRIDE + k);
#if FRAGMENTS_N == 4
      let w2 = load_right(right_place + 32u * OPERAND_STRIDE + k);
      let w3 = load_right(right_place + 48u * OPERAND_STRIDE + k);
#endif
      // The rest of x first, its products being the smaller ones.
      for (var product = 0u; product < times(PRODUCTS); product++) {
        let place = left_place + (PRODUCTS - 1u - product) * (TILE_M * OPERAND_STRIDE) + k;
        let x0 = load_left(place);
        s00 = multiply_add(x0, w0, s00);
        s01 = multiply_add(x0, w1, s01);
#if FRAGMENTS_N == 4
        s02 = multiply_add(x0, w2, s02);
        s03 = multiply_add(x0, w3, s03);
#endif
#if FRAGMENTS_M == 2
        let x1 = load_left(place + 16u * OPERAND_STRIDE);
        s10 = multiply_add(x1, w0, s10);
        s11 = multiply_add(x1, w1, s11);
#if FRAGMENTS_N == 4
        s12 = multiply_add(x1, w2, s12);
        s13 = multiply_add(x1, w3, s13);
#endif
#endif
      }
    }
  }

  write_pair(subgroup, lane, first_m, first_n, s00, s01, units);
#if FRAGMENTS_N == 4
  write_pair(subgroup, lane, first_m, first_n + 32u, s02, s03, units);
#endif
#if FRAGMENTS_M == 2
  write_pair(subgroup, lane, first_m + 16u, first_n, s10, s11, units);
#if FRAGMENTS_N == 4
  write_pair(subgroup, lane, first_m + 16u, first_n + 32u, s12, s13, units);
#endif
#endif
}
