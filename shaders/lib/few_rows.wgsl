// A strip of a product, as lib/matrix_strip.wgsl has it, for few rows of x: by loops, without the staging that subgroup matrices want. For fp8.
//
// A subgroup takes TEAM_ROWS rows of weights at a time, PASSES times; a lane every 32nd 16 columns of them. A weight is decoded once for all rows of x. Sums are f32, in units of the block's scale.
// Little of it is unrolled: on an H100 that was as fast, with half the code.
// Needs lib/matrix_strip.wgsl and, of the including shader, besides: fn few_vectors(at: array<u32, TEAM_ROWS>) -> array<Unit, TEAM_ROWS>.
// Constants: FEW_ROWS = 2, the most rows of x; TEAM_ROWS = 8; TEAM_SUMS = TEAM_ROWS FEW_ROWS, HALF_SUMS half of that; RAGGED_TEAM: ROW_VECTORS is no multiple of 32.
const PASSES: u32 = 16u * FRAGMENTS / (TEAM_ROWS * STRIP_SUBGROUPS);
const UNITS_AT_ONCE: u32 = 32u;
// Lanes that have the same sum in the end.
const SUM_LANES: u32 = 32u / TEAM_SUMS;
#if GATE_UP
const TEAM_OUTPUTS: u32 = TEAM_ROWS / 2u;
#else
const TEAM_OUTPUTS: u32 = TEAM_ROWS;
#endif

// The stored row of one of the strip's outputs, of gate or up.
fn few_row(output: u32, matrix: u32) -> u32 {
#if GATE_UP
  return weight_row(output / 16u * 2u + matrix, output % 16u);
#else
  return weight_row(output / 16u, output % 16u);
#endif
}

#if SUBGROUP_MATRIX == hardware
// Of all lanes, sum number lane / SUM_LANES: at each step lanes give half of theirs away.
fn sums_of_lanes(values: array<f32, TEAM_SUMS>, lane: u32, area: u32) -> f32 {
  var sums = values;
#unroll step < 5
  const mask = 16u >> step;
  const width = HALF_SUMS >> step;
#unroll i < HALF_SUMS
  if (i < width) {
    let upper = (lane & mask) != 0u;
    let far = sums[(i + width) % TEAM_SUMS];
    sums[i] = select(sums[i], far, upper) + subgroupShuffleXor(select(far, sums[i], upper), mask);
  }
#endunroll
  if (width == 0u) {
    sums[0] += subgroupShuffleXor(sums[0], mask);
  }
#endunroll
  return sums[0];
}

// Of the lane that has sum number `number` ^ TEAM_OUTPUTS.
fn partner(value: f32, lane: u32, area: u32) -> f32 {
  return subgroupShuffleXor(value, TEAM_OUTPUTS * SUM_LANES);
}
#else
fn sums_of_lanes(values: array<f32, TEAM_SUMS>, lane: u32, area: u32) -> f32 {
  var sums = values;
  var sum = 0.0;
  for (var i = 0u; i < TEAM_SUMS; i++) {
    workgroupBarrier();
    tile[area + lane].x = bitcast<u32>(sums[i]);
    workgroupBarrier();
    if (lane / SUM_LANES == i) {
      for (var other = 0u; other < times(32u); other++) {
        sum += bitcast<f32>(tile[area + other].x);
      }
    }
  }
  return sum;
}

fn partner(value: f32, lane: u32, area: u32) -> f32 {
  workgroupBarrier();
  tile[area + lane].x = bitcast<u32>(value);
  workgroupBarrier();
  return bitcast<f32>(tile[area + (lane ^ (TEAM_OUTPUTS * SUM_LANES))].x);
}
#endif

// @param count rows of x, FEW_ROWS at most: the same for the workgroup
// @param vectors ROW_VECTORS, and `parts` 2: not known to the compiler, lest one unroll loops
fn multiply_few(local: u32, count: u32, vectors: u32, parts: u32) {
  let lane = local % 32u;
  let subgroup = subgroup_number(local);
  let area = subgroup * AREA;
  let x_place = first_block() * X_BLOCK;
  // What the lane writes.
  let number = lane / SUM_LANES;
  let m = number / TEAM_ROWS;
  let n = number % TEAM_ROWS;
  let of_x = x_unit(m);
  for (var pass_number = 0u; pass_number < PASSES; pass_number++) {
    let first = (pass_number * STRIP_SUBGROUPS + subgroup) * TEAM_OUTPUTS;
    var rows: array<u32, TEAM_ROWS>;
#unroll r < TEAM_ROWS
    rows[r] = few_row(first + r % TEAM_OUTPUTS, r / TEAM_OUTPUTS) * ROW_VECTORS;
#endunroll
    // [FEW_ROWS, TEAM_ROWS]
    var sums = array<f32, TEAM_SUMS>();
    var units = vec2<f32>(1.0);
    for (var start = 0u; start < vectors; start += UNITS_AT_ONCE) {
      let unit = min(start + lane, ROW_VECTORS - 1u);
      var at: array<u32, TEAM_ROWS>;
#unroll r < TEAM_ROWS
      at[r] = rows[r] + unit;
#endunroll
      var words = few_vectors(at);
#if GATE_UP
      let scales = vec2<f32>(unit_of(0u, unit / 8u), unit_of(1u, unit / 8u));
#else
      let scales = vec2<f32>(unit_of(0u, unit / 8u));
#endif
      // Rows past the last repeat it; columns past the last count as zero.
      var x: array<array<vec4<u32>, 2>, FEW_ROWS>;
#if PRODUCTS == 2
      var rest: array<array<vec4<u32>, 2>, FEW_ROWS>;
#endif
#unroll t < FEW_ROWS
#unroll half < 2
      let at_x = x_place + unit * X_FRAGMENT + min(t, count - 1u) * 2u + half;
      x[t][half] = halves[at_x];
#if PRODUCTS == 2
      rest[t][half] = halves[HALVES_REST + at_x];
#endif
#endunroll
#endunroll
#if RAGGED_TEAM
      if (start + lane >= ROW_VECTORS) {
        words = array<Unit, TEAM_ROWS>();
      }
#endif
      let factors = units / scales;
      units = scales;
#unroll t < FEW_ROWS
#unroll r < TEAM_ROWS
      sums[t * TEAM_ROWS + r] *= select(factors.y, factors.x, r < TEAM_OUTPUTS);
#endunroll
#endunroll
      // Eight columns at a time; those that are left move to the front.
      for (var part = 0u; part < parts; part++) {
        var x_evens: array<array<vec2<f32>, 2>, FEW_ROWS>;
        var x_odds: array<array<vec2<f32>, 2>, FEW_ROWS>;
#unroll t < FEW_ROWS
#unroll j < 2
        x_evens[t][j] = unpack2x16float(x[t][0][2u * j]);
        x_odds[t][j] = unpack2x16float(x[t][0][2u * j + 1u]);
#if PRODUCTS == 2
        x_evens[t][j] += unpack2x16float(rest[t][0][2u * j]);
        x_odds[t][j] += unpack2x16float(rest[t][0][2u * j + 1u]);
#endif
#endunroll
        x[t][0] = x[t][1];
#if PRODUCTS == 2
        rest[t][0] = rest[t][1];
#endif
#endunroll
#unroll r < TEAM_ROWS
        let own = words[r].xy;
        words[r] = words[r].zwzw;
#unroll j < 2
        let even = unpack2x16float(even_codes(own[j]));
        let odd = unpack2x16float(odd_codes(own[j]));
#unroll t < FEW_ROWS
        sums[t * TEAM_ROWS + r] = sums[t * TEAM_ROWS + r] + even.x * x_evens[t][j].x + even.y * x_evens[t][j].y + odd.x * x_odds[t][j].x + odd.y * x_odds[t][j].y;
#endunroll
#endunroll
#endunroll
      }
    }
#unroll t < FEW_ROWS
#unroll r < TEAM_ROWS
    sums[t * TEAM_ROWS + r] *= select(units.y, units.x, r < TEAM_OUTPUTS);
#endunroll
#endunroll
    let sum = sums_of_lanes(sums, lane, area);
#if GATE_UP
    let up = partner(sum, lane, area);
    if (lane % SUM_LANES == 0u && n < TEAM_OUTPUTS && m < count) {
      write_result(m, first + n, silu(sum * of_x) * (up * of_x));
    }
#else
    if (lane % SUM_LANES == 0u && m < count) {
      write_result(m, first + n, sum * of_x);
    }
#endif
  }
}
