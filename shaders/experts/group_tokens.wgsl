// Sorts a step's (token, slot) pairs by expert, and cuts each expert's share into tiles, for the tiled products (many.wgsl).
//
// routing [tokens, SLOTS] of (expert, weight as f32 bits)
// rows    [tokens * SLOTS] of token * SLOTS + slot, by expert, and within an expert in ascending order
// tiles   [1 + tiles] of vec4: first (number of tiles, 0, 0, 0), then (expert, its first place in `rows`, how many rows, 0), by expert
//
// Dispatch: one workgroup of 256. Pairs whose expert is not below EXPERTS are left out.
// Numerics: integers. Atomics only count, so that the result does not depend on the order of invocations.
#include "lib/batch.wgsl"

const WORKGROUP: u32 = 256u;
const NONE: u32 = 0xffffffffu;
// Experts that an invocation sums up for the prefix sums.
const SHARE: u32 = (EXPERTS + WORKGROUP - 1u) / WORKGROUP;

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> rows: array<u32>;
@group(0) @binding(3) var<storage, read_write> tiles: array<vec4<u32>>;

var<workgroup> counts: array<atomic<u32>, EXPERTS>;
// Where the next row of each expert goes.
var<workgroup> places: array<atomic<u32>, EXPERTS>;
// Rows and tiles of each invocation's experts.
var<workgroup> sums: array<vec2<u32>, WORKGROUP>;
var<workgroup> experts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) local: u32) {
  let pairs = token_count() * SLOTS;
  for (var pair = local; pair < pairs; pair += WORKGROUP) {
    let expert = routing[pair].x;
    if (expert < EXPERTS) {
      atomicAdd(&counts[expert], 1u);
    }
  }
  workgroupBarrier();
  let first = local * SHARE;
  let last = min(first + SHARE, EXPERTS);
  var sum: vec2<u32>;
  for (var e = first; e < last; e++) {
    let count = atomicLoad(&counts[e]);
    sum += vec2<u32>(count, (count + TILE_ROWS - 1u) / TILE_ROWS);
  }
  sums[local] = sum;
  workgroupBarrier();
  var place: vec2<u32>;
  for (var i = 0u; i < local; i++) {
    place += sums[i];
  }
  if (local == WORKGROUP - 1u) {
    tiles[0] = vec4<u32>(place.y + sum.y, 0u, 0u, 0u);
  }
  for (var e = first; e < last; e++) {
    let count = atomicLoad(&counts[e]);
    atomicStore(&places[e], place.x);
    for (var start = 0u; start < count; start += TILE_ROWS) {
      tiles[1u + place.y] = vec4<u32>(e, place.x + start, min(TILE_ROWS, count - start), 0u);
      place.y += 1u;
    }
    place.x += count;
  }
  // 256 pairs at a time: a pair's place is after those of its expert before it in the block.
  for (var start = 0u; start < pairs; start += WORKGROUP) {
    let pair = start + local;
    var expert = NONE;
    if (pair < pairs) {
      expert = routing[pair].x;
    }
    experts[local] = expert;
    workgroupBarrier();
    var before = 0u;
    for (var i = 0u; i < local; i++) {
      before += u32(experts[i] == expert);
    }
    if (expert < EXPERTS) {
      rows[atomicLoad(&places[expert]) + before] = pair;
    }
    workgroupBarrier();
    if (expert < EXPERTS) {
      atomicAdd(&places[expert], 1u);
    }
  }
}
