// The gate of a MoE layer for a batch in one dispatch, where it is small enough for each token's workgroup to read all of it: the norm of the token's row, in the forms that products
// want (lib/norm_operands.wgsl), the experts' logits, and the choice of experts (lib/route.wgsl). With PLACED the row is written for them, as halves, where their products want it (lib/place_rows.wgsl), in place of
// a form by token. With AHEAD further workgroups read weights of the experts meanwhile (lib/read_ahead.wgsl).
//
// weights [EXPERTS, UNITS] in WEIGHT_FORMAT (lib/unit.wgsl), columns beyond COLS zero; the rest as those files have it
//
// Dispatch: a workgroup of WORKGROUP for each token, and with AHEAD as many again in the second dimension, once or more; rows beyond the batch's count are left as they are. Its TEAMS subgroups take ROWS experts at a time each (lib/row_teams.wgsl).
// RAGGED_UNITS: UNITS is no multiple of STEP * UNROLL.
#include "lib/batch.wgsl"
#include "lib/norm_operands.wgsl"
#include "lib/row_teams.wgsl"
#include "lib/team_products.wgsl"
#include "lib/route.wgsl"
#if PLACED
#include "lib/place_rows.wgsl"
#endif

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> gamma: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<Unit>;
@group(0) @binding(3) var<storage, read> batch: array<u32>;
@group(0) @binding(4) var<storage, read_write> routing: array<vec2<u32>>;
#if BIAS
@group(0) @binding(5) var<storage, read> bias: array<f32>;
#endif
#if PLAIN
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;
#endif
#if HALVES
@group(0) @binding(7) var<storage, read_write> halves: array<vec4<u32>>;
#endif
#if PLACED
@group(0) @binding(8) var<storage, read_write> board: array<atomic<u32>>;
@group(0) @binding(9) var<storage, read_write> rows: array<u32>;
@group(0) @binding(10) var<storage, read_write> tiles: array<vec4<u32>>;
@group(0) @binding(11) var<storage, read> scales: array<f32>;
@group(0) @binding(12) var<storage, read_write> hidden: array<vec4<u32>>;
#endif
#if AHEAD
@group(0) @binding(13) var<storage, read> ahead: array<u32>;
#include "lib/read_ahead.wgsl"
#endif

// Experts that the teams take at once, and how often.
const TURN: u32 = TEAMS * ROWS;
const TURNS: u32 = (EXPERTS + TURN - 1u) / TURN;

var<workgroup> input: array<vec4<f32>, 2u * OCTETS>;
var<workgroup> logits: array<f32, EXPERTS>;

fn router_logit(token: u32, expert: u32) -> f32 {
  return logits[expert];
}

// Of the team's rows from `first` on, units from `start` on; those past the last repeat it.
fn row_words(first: u32, start: u32) -> array<Unit, UNROLL * ROWS> {
  var at: array<u32, ROWS>;
#unroll r < ROWS
  at[r] = min(first + r, EXPERTS - 1u) * UNITS;
#endunroll
  var words: array<Unit, UNROLL * ROWS>;
#unroll u < UNROLL
#unroll r < ROWS
  words[u * ROWS + r] = weights[at[r] + min(start + u * STEP, UNITS - 1u)];
#endunroll
#endunroll
  return words;
}

// @param words the first of the rows from `first` on
fn put_logits(first: u32, team_lane: u32, first_words: array<Unit, UNROLL * ROWS>) {
  var words = first_words;
  var sums: array<f32, SUMS>;
  for (var start = team_lane; start < UNITS; start += STEP * UNROLL) {
    // Under way while these are multiplied.
    let next_words = row_words(first, start + STEP * UNROLL);
#unroll u < UNROLL
    let unit = min(start + u * STEP, UNITS - 1u);
    var own_words: array<Unit, ROWS>;
#unroll r < ROWS
    own_words[r] = words[u * ROWS + r];
#endunroll
#if RAGGED_UNITS
    let inside = select(0.0, 1.0, start + u * STEP < UNITS);
#endif
#unroll part < PARTS
#if RAGGED_UNITS
    sums = add_part(sums, own_words, part, array<vec4<f32>, TOKENS>(inside * input[unit * PARTS + part]));
#else
    sums = add_part(sums, own_words, part, array<vec4<f32>, TOKENS>(input[unit * PARTS + part]));
#endif
#endunroll
#endunroll
    words = next_words;
  }
#unroll r < ROWS
  let logit = lanes_sum(sums[r]);
  if (team_lane == r % LANES && first + r < EXPERTS) {
    logits[first + r] = logit;
  }
#endunroll
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
#if AHEAD
  @builtin(num_workgroups) groups: vec3<u32>,
#endif
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_size) subgroup_size: u32,
  @builtin(subgroup_invocation_id) subgroup_lane: u32,
) {
  lane_count = subgroup_size;
  lane = subgroup_lane;
#if AHEAD
  if (group.y > 0u) {
    let all = read_ahead(((group.y - 1u) * groups.x + group.x) * WORKGROUP + local, (groups.y - 1u) * groups.x * WORKGROUP);
    // Never, which no compiler knows.
    if ((all & (token_count() >> 31u)) != 0u) {
      routing[0] = vec2<u32>(all);
    }
    return;
  }
#endif
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  let team_lane = local % LANES;
  // Under way while the row is normalized.
  var words = row_words(local / LANES * ROWS, team_lane);
  norm_row(token, local);
#unroll i < OWN_VECTORS
  if (vector_of(i, local) < 2u * OCTETS) {
    input[vector_of(i, local)] = own_row[i];
  }
#endunroll
#if PLACED
  write_plain(token, local);
  let exponent = row_exponent();
#else
  write_forms(token, local);
#endif
  workgroupBarrier();
  for (var turn = 0u; turn < TURNS; turn++) {
    let first = (turn * TEAMS + local / LANES) * ROWS;
    if (turn > 0u) {
      words = row_words(first, team_lane);
    }
    put_logits(first, team_lane, words);
  }
  workgroupBarrier();
  route(token, local);
#if PLACED
  place_row(token, local, exponent);
#endif
}
