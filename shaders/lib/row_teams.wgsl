// Products of weight rows with a few vectors, shaped by constants: how a workgroup shares rows and columns. For devices whose subgroup size is known.
//
// A team of LANES invocations has ROWS rows together. A lane takes every LANES * SPLIT th unit of each of its rows, UNROLL at a time, and all loads of
// those stand before the first use: it is the bytes in flight that memory wants. With units of four columns neighbours read neighbouring vectors of x, which caches
// deliver four times as fast as those of wider units, which lie apart. A workgroup has SPLIT parts of a row's columns x TEAMS teams x LANES lanes. Lanes of one
// subgroup that belong to different teams read the same x, so few lanes a team make x cheap; many lanes and parts put more of a row in flight.
//
// Constants: those of lib/chunk.wgsl; UNIT_WORDS; PARTS, vectors of four weights in a unit; ROWS, LANES (a power of two, at most the subgroup size), TEAMS, SPLIT, UNROLL, SUMS (sums a team takes);
// WHOLE_SUBGROUP (a team is one subgroup); WORKGROUP = SPLIT * TEAMS * LANES.
// Sums: f32, in an order that depends on the shape and these constants only.
#include "lib/chunk.wgsl"
#include "lib/unit_parts.wgsl"

// Units that a workgroup reads of a row at once.
const STEP: u32 = LANES * SPLIT;
// Units that share a scale.
const SCALE_UNITS: u32 = 32u / PARTS;

#if SPLIT == 1
#else
var<workgroup> split_sums: array<f32, SPLIT * TEAMS * SUMS>;
#endif

// The sum over a team's lanes, in every lane.
fn lanes_sum(value: f32) -> f32 {
#if LANES == 1
  return value;
#else
#if WHOLE_SUBGROUP
  return subgroupAdd(value);
#else
  var sum = value;
  for (var mask = 1u; mask < LANES; mask <<= 1u) {
    sum += subgroupShuffleXor(sum, mask);
  }
  return sum;
#endif
#endif
}
