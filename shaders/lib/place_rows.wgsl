// Puts a token's row where the tiled products of its experts want it (experts/strip.wgsl), by the workgroup that has chosen them, and lists the tiles, by the workgroup that comes last: what
// experts/group_tokens.wgsl does with HIDDEN, which takes a dispatch of its own.
//
// Each of EXPERT_COUNT experts has blocks of 16 rows to itself, as many as all tokens may fill: block EXPERT_COUNT k + expert for its rows 16 k .. 16 k + 15. So a row has its place as soon as it is counted.
// Which of its expert's rows it becomes is left to chance; nothing that is computed of a row depends on that.
//
// Needs in the including shader, besides lib/batch.wgsl, lib/norm_operands.wgsl (HALVES, `halves` having HALVES_BLOCKS), lib/row_teams.wgsl and lib/route.wgsl:
//
//   @group(0) @binding(n) var<storage, read_write> board: array<atomic<u32>>;   [EXPERT_COUNT + 1], zeros before and after: rows of each expert, then of all
//   @group(0) @binding(n) var<storage, read_write> rows: array<u32>;            [16 blocks] of token * SLOTS + slot
//   @group(0) @binding(n) var<storage, read_write> tiles: array<vec4<u32>>;     as group_tokens.wgsl has them, by expert; a tile's first place in `rows` is that of its block
//   @group(0) @binding(n) var<storage, read> scales: array<f32>;                [EXPERT_COUNT, 2, SCALES] of gate and up
//   @group(0) @binding(n) var<storage, read_write> hidden: array<vec4<u32>>;    powers of two from element HIDDEN_POWERS on
//
// Constants: EXPERT_COUNT = EXPERTS + SHARED_SLOTS, EXPERT_BLOCKS of each, SCALES, SCALES_AHEAD, HIDDEN_POWERS, INPUTS.
//
// Nothing in WGSL orders what one workgroup writes to storage before what another reads of it, so what they tell each other is in atomic words. Whoever counts among all has counted among its expert's just
// before, without a condition, so that the last one waits for words under way at most, never for a workgroup that has yet to run; MOST_LOOKS ends even that.
#include "lib/hidden_power.wgsl"

const MOST_LOOKS: u32 = 65536u;
const COUNT_ROOM: u32 = (EXPERT_COUNT + STRETCH - 1u) / STRETCH * STRETCH;

var<workgroup> slot_rows: array<u32, SLOTS>;
// The largest of the expert's gate times the largest of its up.
var<workgroup> slot_scales: array<f32, SLOTS>;
var<workgroup> is_last: u32;
// Rows of each expert, and of all.
var<workgroup> counts: array<u32, COUNT_ROOM>;
var<workgroup> found: atomic<u32>;
var<workgroup> all_found: u32;

fn slot_expert(slot: u32) -> u32 {
  return select(EXPERTS + slot - TOP_K, chosen[min(slot, TOP_K - 1u)], slot < TOP_K);
}

fn tiles_of(count: u32) -> u32 {
  return (count + 15u) / 16u;
}

// By the last invocations, while the first teams find scales.
fn take_places(token: u32, local: u32) {
  for (var slot = WORKGROUP - 1u - local; slot < SLOTS; slot += WORKGROUP) {
    let expert = slot_expert(slot);
    let place = min(atomicAdd(&board[expert], 1u), 16u * EXPERT_BLOCKS - 1u);
    let before = atomicAdd(&board[EXPERT_COUNT], 1u);
    let row = 16u * (place / 16u * EXPERT_COUNT + expert) + place % 16u;
    slot_rows[slot] = row;
    rows[row] = token * SLOTS + slot;
    if (before == token_count() * SLOTS - 1u) {
      is_last = 1u;
    }
  }
}

// The largest of a team's lanes, in every lane.
fn lanes_max(value: f32) -> f32 {
#if WHOLE_SUBGROUP
  return subgroupMax(value);
#else
  var most = value;
  for (var mask = 1u; mask < LANES; mask <<= 1u) {
    most = max(most, subgroupShuffleXor(most, mask));
  }
  return most;
#endif
}

// The largest of an expert's scales that a lane finds, of gate and of up.
fn own_scales(expert: u32, team_lane: u32) -> vec2<f32> {
  let base = expert * 2u * SCALES;
  var most = vec2<f32>(0.0);
  for (var start = team_lane; start < SCALES; start += LANES * SCALES_AHEAD) {
    // All of them are under way before the first is looked at.
    var loaded: array<vec2<f32>, SCALES_AHEAD>;
#unroll i < SCALES_AHEAD
    let at = base + min(start + i * LANES, SCALES - 1u);
    loaded[i] = vec2<f32>(scales[at], scales[at + SCALES]);
#endunroll
#unroll i < SCALES_AHEAD
    most = max(most, abs(loaded[i]));
#endunroll
  }
  return most;
}

// Each team has a slot at a time.
fn find_scales(local: u32) {
  for (var first = 0u; first < SLOTS; first += TEAMS) {
    let slot = first + local / LANES;
    var most = vec2<f32>(0.0);
    if (slot < SLOTS) {
      most = own_scales(slot_expert(slot), local % LANES);
    }
    let scale = lanes_max(most.x) * lanes_max(most.y);
    if (slot < SLOTS && local % LANES == 0u) {
      slot_scales[slot] = scale;
    }
  }
}

fn write_rows(local: u32, exponent: u32) {
  let power = power_of_two(exponent);
  for (var slot = 0u; slot < SLOTS; slot++) {
#unroll i < OWN_OCTETS
    if (local + i * WORKGROUP < OCTETS) {
      write_octet(slot_rows[slot], local + i * WORKGROUP, own_row[2u * i] * power, own_row[2u * i + 1u] * power);
    }
#endunroll
  }
  for (var slot = local; slot < SLOTS; slot += WORKGROUP) {
    let row = slot_rows[slot];
    let of_hidden = hidden_exponent(slot_scales[slot], own_squares);
    halves[HALVES_POWERS + row] = vec4<u32>(bitcast<u32>(power_of_two(254u - exponent)), bitcast<u32>(own_squares), of_hidden, 0u);
    hidden[HIDDEN_POWERS + row] = hidden_power(of_hidden);
  }
}

// Sets `counts`, complete.
fn find_counts(local: u32) {
  let all = token_count() * SLOTS;
  for (var looks = 0u; looks < MOST_LOOKS; looks++) {
    for (var expert = local; expert < EXPERT_COUNT; expert += WORKGROUP) {
      counts[expert] = atomicLoad(&board[expert]);
      atomicAdd(&found, counts[expert]);
    }
    workgroupBarrier();
    if (local == 0u) {
      all_found = atomicLoad(&found);
    }
    if (workgroupUniformLoad(&all_found) == all) {
      break;
    }
    if (local == 0u) {
      atomicStore(&found, 0u);
    }
    workgroupBarrier();
  }
}

fn list_tiles(local: u32) {
  find_counts(local);
  for (var expert = local; expert < EXPERT_COUNT; expert += WORKGROUP) {
    var first = 0u;
    for (var start = 0u; start < expert; start += STRETCH) {
#unroll i < 8
      first += select(0u, tiles_of(counts[start + i]), start + i < expert);
#endunroll
    }
    let count = counts[expert];
    let needed = min(tiles_of(count), EXPERT_BLOCKS);
    for (var i = 0u; i < needed; i++) {
      let block = i * EXPERT_COUNT + expert;
      tiles[1u + first + i] = vec4<u32>(expert, 16u * block, min(16u, count - 16u * i), block);
    }
    if (expert == EXPERT_COUNT - 1u) {
      tiles[0] = vec4<u32>(first + needed, 0u, 0u, 0u);
    }
    atomicStore(&board[expert], 0u);
  }
  if (local == 0u) {
    atomicStore(&board[EXPERT_COUNT], 0u);
  }
}

// Must be reached in uniform control flow, once by a workgroup, after route(). @param exponent of the row's power of two
fn place_row(token: u32, local: u32, exponent: u32) {
  take_places(token, local);
  find_scales(local);
  workgroupBarrier();
  write_rows(local, exponent);
  if (workgroupUniformLoad(&is_last) == 1u) {
    list_tiles(local);
  }
}
