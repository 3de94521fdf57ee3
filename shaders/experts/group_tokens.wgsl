// Sorts a step's (token, slot) pairs by expert, and cuts each expert's share into tiles, for the tiled products (many.wgsl).
//
// routing [tokens, SLOTS] of (expert, weight as f32 bits)
// rows    [tokens * SLOTS] of token * SLOTS + slot, by expert, and within an expert in ascending order
// tiles   [1 + tiles] of vec4: first (number of tiles, 0, 0, 0), then (expert, its first place in `rows`, how many rows, the tile's own number), by expert
//
// Dispatch: EXPERTS workgroups of 256, each of which counts everything and places the pairs and tiles of one expert: counting is quick, and
// one workgroup that places all would have to do so in turns. Pairs whose expert is not below EXPERTS are left out.
//
// With GATHER the halves of each token's row (lib/matrix_halves.wgsl: FROM_ROWS rows, without HALVES_BLOCKS) are copied to where its tiles' rows are wanted, tiles having 16 rows
// at most: row r of `halves`, which has HALVES_BLOCKS, is row r % 16 of tile r / 16. As many workgroups along y as take GATHER_OCTETS of a row each, all of which count;
// COPIES octets an invocation are under way at once.
//
// With HIDDEN the powers of two of what gate and up make of those rows (lib/hidden_power.wgsl) are settled as well, and written to the rows' elements of `halves` and, from element HIDDEN_POWERS on, of `hidden`,
// which has the same rows.
// scales [EXPERTS, 2, SCALES] f32 of gate and up, INPUTS columns of fp8 codes each.
// Numerics: integers. Atomics only count, so that the result does not depend on the order of invocations.
#include "lib/batch.wgsl"
#if GATHER
#include "lib/write_halves.wgsl"
#if HIDDEN
#include "lib/hidden_power.wgsl"
#endif
#endif

const WORKGROUP: u32 = 256u;
const NONE: u32 = 0xffffffffu;
// Experts whose counts an invocation adds up.
const SHARE: u32 = (EXPERTS + WORKGROUP - 1u) / WORKGROUP;
// Sums over invocations have two levels.
const LINE: u32 = 16u;
const LINES: u32 = WORKGROUP / LINE;

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4<u32>>;
#if GATHER
@group(0) @binding(4) var<storage, read> token_halves: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> halves: array<vec4<u32>>;

#if HIDDEN
@group(0) @binding(6) var<storage, read> scales: array<f32>;
@group(0) @binding(7) var<storage, read_write> hidden: array<vec4<u32>>;

// The largest scales of the expert, of gate and of up.
var<workgroup> largest_scales: array<atomic<u32>, 2>;
#endif

const FROM_REST: u32 = FROM_ROWS * HALVES_OCTETS;
const FROM_POWERS: u32 = 2u * FROM_REST;
// The tokens that take the expert, each of them once.
var<workgroup> own_tokens: array<u32, FROM_ROWS>;
#endif

var<workgroup> counts: array<atomic<u32>, EXPERTS>;
// Of each invocation: rows of the experts before this one, their tiles, its own pairs of this expert, tiles of all experts.
var<workgroup> sums: array<vec4<u32>, WORKGROUP>;
var<workgroup> line_sums: array<vec4<u32>, LINES>;

fn expert_of(pair: u32, last: u32) -> u32 {
  return select(NONE, routing[min(pair, last - 1u)].x, pair < last);
}

fn count_pair(expert: u32) {
  if (expert < EXPERTS) {
    atomicAdd(&counts[expert], 1u);
  }
}

#if GATHER
// Of the halves, for a row of an expert whose first tile is number `tile`.
fn tile_row(tile: u32, row: u32) -> u32 {
  return 16u * (tile + row / TILE_ROWS) + row % TILE_ROWS;
}
#endif

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
#if SUBGROUPS
  @builtin(subgroup_invocation_id) lane: u32,
#endif
) {
  let own = group.x;
  let pairs = token_count() * SLOTS;
  // An invocation's pairs follow each other, four loads under way at once.
  let share = (pairs + WORKGROUP - 1u) / WORKGROUP;
  let first = min(local * share, pairs);
  let last = min(first + share, pairs);
  var matches = 0u;
  for (var pair = first; pair < last; pair += 4u) {
    let e = vec4<u32>(expert_of(pair, last), expert_of(pair + 1u, last), expert_of(pair + 2u, last), expert_of(pair + 3u, last));
    count_pair(e.x);
    count_pair(e.y);
    count_pair(e.z);
    count_pair(e.w);
    let same = select(vec4<u32>(0u), vec4<u32>(1u), e == vec4<u32>(own));
    matches += same.x + same.y + same.z + same.w;
  }
#if HIDDEN
  if (group.y == 0u) {
    // One half of the invocations for gate, the other for up.
    let matrix = local / (WORKGROUP / 2u);
    var most = 0.0;
    for (var i = local % (WORKGROUP / 2u); i < SCALES; i += WORKGROUP / 2u) {
      most = max(most, abs(scales[(own * 2u + matrix) * SCALES + i]));
    }
    // Numbers that are not negative sort as their bits do.
#if SUBGROUPS
    most = subgroupMax(most);
    if (lane == 0u) {
      atomicMax(&largest_scales[matrix], bitcast<u32>(most));
    }
#else
    atomicMax(&largest_scales[matrix], bitcast<u32>(most));
#endif
  }
#endif
  workgroupBarrier();
  var sum = vec4<u32>(0u, 0u, matches, 0u);
  for (var i = 0u; i < SHARE; i++) {
    let expert = i * WORKGROUP + local;
    if (expert < EXPERTS) {
      let count = atomicLoad(&counts[expert]);
      let needed = (count + TILE_ROWS - 1u) / TILE_ROWS;
      sum += select(vec4<u32>(0u), vec4<u32>(count, needed, 0u, 0u), expert < own) + vec4<u32>(0u, 0u, 0u, needed);
    }
  }
  sums[local] = sum;
  workgroupBarrier();
  if (local < LINES) {
    var line: vec4<u32>;
    for (var i = 0u; i < LINE; i++) {
      line += sums[local * LINE + i];
    }
    line_sums[local] = line;
  }
  workgroupBarrier();
  // All of the group's, and matches of the invocations before this one.
  var all: vec4<u32>;
  var before = 0u;
  for (var i = 0u; i < LINES; i++) {
    let line = line_sums[i];
    all += line;
    before += select(0u, line.z, i < local / LINE);
  }
  for (var i = local / LINE * LINE; i < local; i++) {
    before += sums[i].z;
  }

  let count = all.z;
#if GATHER
  let writes = group.y == 0u;
#else
  let writes = true;
#endif
  if (own == 0u && local == 0u && writes) {
    tiles[0] = vec4<u32>(all.w, 0u, 0u, 0u);
  }
  for (var tile = local; tile * TILE_ROWS < count && writes; tile += WORKGROUP) {
    let start = tile * TILE_ROWS;
    tiles[1u + all.y + tile] = vec4<u32>(own, all.x + start, min(TILE_ROWS, count - start), all.y + tile);
  }
  if (matches > 0u) {
    var place = before;
    for (var pair = first; pair < last; pair++) {
      if (routing[pair].x == own) {
        if (writes) {
          rows[all.x + place] = pair;
        }
#if GATHER
        own_tokens[min(place, FROM_ROWS - 1u)] = pair / SLOTS;
#endif
        place++;
      }
    }
  }
#if GATHER
  workgroupBarrier();
  let octets = count * GATHER_OCTETS;
  for (var start = local; start < octets; start += COPIES * WORKGROUP) {
    var sources: array<u32, COPIES>;
    var targets: array<u32, COPIES>;
    var near: array<vec4<u32>, COPIES>;
#if HALVES_PRODUCTS == 2
    var rest: array<vec4<u32>, COPIES>;
#endif
#unroll i < COPIES
    // Those past the last repeat it.
    let at = min(start + i * WORKGROUP, octets - 1u);
    let row = at / GATHER_OCTETS;
    let octet = min(group.y * GATHER_OCTETS + at % GATHER_OCTETS, HALVES_OCTETS - 1u);
    sources[i] = own_tokens[min(row, FROM_ROWS - 1u)] * HALVES_OCTETS + octet;
    targets[i] = place_of(tile_row(all.y, row), octet);
    near[i] = token_halves[sources[i]];
#if HALVES_PRODUCTS == 2
    rest[i] = token_halves[FROM_REST + sources[i]];
#endif
#endunroll
#unroll i < COPIES
    halves[targets[i]] = near[i];
#if HALVES_PRODUCTS == 2
    halves[HALVES_REST + targets[i]] = rest[i];
#endif
#endunroll
  }
  for (var row = local; row < count && writes; row += WORKGROUP) {
    var element = token_halves[FROM_POWERS + own_tokens[min(row, FROM_ROWS - 1u)]];
#if HIDDEN
    element.z = hidden_exponent(bitcast<f32>(atomicLoad(&largest_scales[0])) * bitcast<f32>(atomicLoad(&largest_scales[1])), bitcast<f32>(element.y));
    hidden[HIDDEN_POWERS + tile_row(all.y, row)] = hidden_power(element.z);
#endif
    halves[HALVES_POWERS + tile_row(all.y, row)] = element;
  }
#endif
}
