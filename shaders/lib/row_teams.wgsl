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
#include "lib/unit.wgsl"

// Units that a workgroup reads of a row at once.
const STEP: u32 = LANES * SPLIT;
// Units that share a scale.
const SCALE_UNITS: u32 = 32u / PARTS;

#if SPLIT == 1
#else
var<workgroup> split_sums: array<f32, SPLIT * TEAMS * SUMS>;
#endif

fn decode_part(words: Unit, part: u32) -> vec4<f32> {
#if WEIGHT_FORMAT == fp8
#if UNIT_WORDS == 1
  return fp8_decode4(words);
#else
  return fp8_decode4(words[part]);
#endif
#endif
#if WEIGHT_FORMAT == bf16
  return vec4<f32>(bf16_pair(words[part * 2u]), bf16_pair(words[part * 2u + 1u]));
#endif
#if WEIGHT_FORMAT == f16
  return vec4<f32>(unpack2x16float(words[part * 2u]), unpack2x16float(words[part * 2u + 1u]));
#endif
#if WEIGHT_FORMAT == f32
  return bitcast<vec4<f32>>(words);
#endif
}

// sum + w . x as a chain that becomes four fused multiply-adds where the device has them.
fn add_dot(sum: f32, w: vec4<f32>, x: vec4<f32>) -> f32 {
  return sum + w.x * x.x + w.y * x.y + w.z * x.z + w.w * x.w;
}

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
