// Where rows of halves (lib/write_halves.wgsl) lie in their buffer, in elements of 8 f16 numbers: [HALVES_ROWS, HALVES_OCTETS] of the numbers rounded to f16, as many of
// what rounding lost, which products of one f16 number leave as it is, then for each row an element: 1 / its power of two and, where its writer knows
// it, the sum of its numbers' squares, both as f32; the biased exponent of the power of two of the row that gate and up make of it, where that is settled (experts/group_tokens.wgsl). With HALVES_BLOCKS 16 rows of 16 columns lie in one piece, as a fragment of
// subgroup matrices reads them: [HALVES_ROWS / 16, HALVES_OCTETS / 2, 16, 2].
// Constants: HALVES_ROWS, HALVES_OCTETS: columns rounded up to a tile's, zero beyond the last.
const HALVES_REST: u32 = HALVES_ROWS * HALVES_OCTETS;
const HALVES_POWERS: u32 = 2u * HALVES_REST;
