// The MLP of a small MoE layer in one dispatch, for a few tokens, from the residual stream to the residual stream: the norm of x, the choice of experts by lib/route.wgsl,
// and x += sum over slots of weight * W_down (silu(W_gate x') * (W_up x')), where x' is the normed x.
//
// x               [tokens, X_STRIDE] f32, columns 0 .. HIDDEN
// gamma           [HIDDEN] f32: x' = x * gamma / sqrt(mean(x^2) + EPSILON); the factor is applied to the sums
// gate            [EXPERTS, CHUNKS] chunks in GATE_FORMAT = "bf16" | "f16" | "f32": the router's logits are gate . x'
// gate_up         for each expert: gate [WIDTH, CHUNKS], up [WIDTH, CHUNKS] chunks in WEIGHT_FORMAT (lib/chunk.wgsl)
// gate_up_scales  [experts, 2, ceil(WIDTH / 128), ceil(HIDDEN / 128)] f32, for fp8
// down            for each expert: [HIDDEN, DOWN_CHUNKS] chunks in WEIGHT_FORMAT
// down_scales     [experts, ceil(HIDDEN / 128), ceil(WIDTH / 128)] f32, for fp8
// bias, routing   lib/route.wgsl
// board           [tokens, SLOTS * HIDDEN + 1] u32, zeros before and after (lib/board.wgsl): what each slot adds to x, then how many slots are done
//
// Dispatch: (SLOTS, tokens) workgroups of WORKGROUP. Rows beyond the batch's count are left as they are. All workgroups of a token choose, each by itself: that takes less than
// another dispatch. Then each has the expert of its slot.
//
// A team of LANES invocations shares a row, DOWN_LANES one of down. A lane has EACH chunks of its rows (DOWN_EACH), every LANES th, and keeps what it multiplies them by in registers; of GATE_ROWS,
// ROWS (of gate and of up each) and DOWN_ROWS rows it has all loads under way before it uses the first. Those are powers of two, so that rows from a multiple of them share their scales.
// GATE_VECTORS and EXPERT_VECTORS are words of four that a chunk takes.
//
// The workgroup that is done last adds what all slots add to x, in the order of the slots, when the others have read it.
//
// Numerics: sums are f32, in an order that depends on these constants only; a 128-block's scale multiplies partial sums.
#include "lib/batch.wgsl"
#include "lib/board.wgsl"
#include "lib/chunk.wgsl"
#include "lib/chunk_dot.wgsl"
#include "lib/route.wgsl"
#include "lib/silu.wgsl"

// Chunks in workgroup memory lie a word further apart than they are long, so that lanes that read one each read different banks.
const CHUNK_ROOM: u32 = 17u;
const TEAMS: u32 = WORKGROUP / LANES;
const DOWN_TEAMS: u32 = WORKGROUP / DOWN_LANES;
// Teams that have a column of x at all when the workgroup reads it together.
const READERS: u32 = min(TEAMS, (HIDDEN + LANES - 1u) / LANES);
const BOARD_STRIDE: u32 = SLOTS * HIDDEN + 1u;
#if WEIGHT_FORMAT == fp8
const HIDDEN_BLOCKS: u32 = (HIDDEN + 127u) / 128u;
const WIDTH_BLOCKS: u32 = (WIDTH + 127u) / 128u;
// Chunks that share a scale.
const SCALE_CHUNKS: u32 = 8u;
#endif

alias GateWords = array<array<vec4<u32>, GATE_VECTORS>, GATE_ROWS * EACH>;
alias ExpertWords = array<array<vec4<u32>, EXPERT_VECTORS>, 2u * ROWS * EACH>;
alias DownWords = array<array<vec4<u32>, EXPERT_VECTORS>, DOWN_ROWS * DOWN_EACH>;

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read> gamma: array<f32>;
@group(0) @binding(2) var<storage, read> gate: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> gate_up: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> down: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> batch: array<u32>;
@group(0) @binding(6) var<storage, read_write> routing: array<vec2<u32>>;
@group(0) @binding(7) var<storage, read_write> board: array<atomic<u32>>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(8) var<storage, read> gate_up_scales: array<f32>;
@group(0) @binding(9) var<storage, read> down_scales: array<f32>;
#endif
#if BIAS
@group(0) @binding(10) var<storage, read> bias: array<f32>;
#endif

// Chunks beyond the last column stay 0, as workgroup memory begins.
var<workgroup> input: array<f32, LANES * EACH * CHUNK_ROOM>;
var<workgroup> h: array<f32, DOWN_LANES * DOWN_EACH * CHUNK_ROOM>;
var<workgroup> squares: array<f32, READERS>;
var<workgroup> logits: array<f32, EXPERTS>;
var<workgroup> is_last: u32;

fn router_logit(token: u32, expert: u32) -> f32 {
  return logits[expert];
}

// Where a column lies in workgroup memory.
fn room_of(column: u32) -> u32 {
  return column / 16u * CHUNK_ROOM + column % 16u;
}

fn decode_gate(words: array<vec4<u32>, GATE_VECTORS>) -> Chunk {
#if GATE_FORMAT == bf16
  return bf16_chunk(words[0], words[1]);
#endif
#if GATE_FORMAT == f16
  return f16_chunk(words[0], words[1]);
#endif
#if GATE_FORMAT == f32
  return f32_chunk(words[0], words[1], words[2], words[3]);
#endif
}

// Rows and chunks beyond the last repeat it rather than reading past the end, here and below; what they are multiplied by is 0, or what comes of them is not kept.
fn gate_words(first: u32, lane: u32) -> GateWords {
  var words: GateWords;
#unroll r < GATE_ROWS
#unroll i < EACH
  let at = (min(first + r, EXPERTS - 1u) * CHUNKS + min(lane + i * LANES, CHUNKS - 1u)) * GATE_VECTORS;
#unroll v < GATE_VECTORS
  words[r * EACH + i][v] = gate[at + v];
#endunroll
#endunroll
#endunroll
  return words;
}

// Rows of gate, then of up.
fn expert_words(expert: u32, first: u32, lane: u32) -> ExpertWords {
  var words: ExpertWords;
#unroll m < 2
#unroll r < ROWS
#unroll i < EACH
  let row = (expert * 2u + m) * WIDTH + min(first + r, WIDTH - 1u);
  let at = (row * CHUNKS + min(lane + i * LANES, CHUNKS - 1u)) * EXPERT_VECTORS;
#unroll v < EXPERT_VECTORS
  words[(m * ROWS + r) * EACH + i][v] = gate_up[at + v];
#endunroll
#endunroll
#endunroll
#endunroll
  return words;
}

fn down_words(expert: u32, first: u32, lane: u32) -> DownWords {
  var words: DownWords;
#unroll r < DOWN_ROWS
#unroll i < DOWN_EACH
  let row = expert * HIDDEN + min(first + r, HIDDEN - 1u);
  let at = (row * DOWN_CHUNKS + min(lane + i * DOWN_LANES, DOWN_CHUNKS - 1u)) * EXPERT_VECTORS;
#unroll v < EXPERT_VECTORS
  words[r * DOWN_EACH + i][v] = down[at + v];
#endunroll
#endunroll
#endunroll
  return words;
}

// What the sums of a lane's chunks must be multiplied by: those of gate, then those of up.
fn expert_factors(expert: u32, first: u32, lane: u32) -> array<f32, 2u * EACH> {
  var factors: array<f32, 2u * EACH>;
#unroll m < 2
#unroll i < EACH
#if WEIGHT_FORMAT == fp8
  let block = (expert * 2u + m) * WIDTH_BLOCKS + min(first, WIDTH - 1u) / 128u;
  let column = min(lane + i * LANES, CHUNKS - 1u) / SCALE_CHUNKS;
  factors[m * EACH + i] = WEIGHT_FACTOR * gate_up_scales[block * HIDDEN_BLOCKS + column];
#else
  factors[m * EACH + i] = WEIGHT_FACTOR;
#endif
#endunroll
#endunroll
  return factors;
}

fn down_factors(expert: u32, first: u32, lane: u32) -> array<f32, DOWN_EACH> {
  var factors: array<f32, DOWN_EACH>;
#unroll i < DOWN_EACH
#if WEIGHT_FORMAT == fp8
  let block = expert * HIDDEN_BLOCKS + min(first, HIDDEN - 1u) / 128u;
  let column = min(lane + i * DOWN_LANES, DOWN_CHUNKS - 1u) / SCALE_CHUNKS;
  factors[i] = WEIGHT_FACTOR * down_scales[block * WIDTH_BLOCKS + column];
#else
  factors[i] = WEIGHT_FACTOR;
#endif
#endunroll
  return factors;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let slot = group.x;
  let token = group.y;
  if (token >= token_count()) {
    return;
  }
  let lane = local % LANES;
  let team = local / LANES;
  // Under way while x is read.
  var router_words = gate_words(team * GATE_ROWS, lane);
  var own_squares = 0.0;
  for (var column = local; column < HIDDEN; column += WORKGROUP) {
    let value = x[token * X_STRIDE + column];
    own_squares += value * value;
    input[room_of(column)] = value * gamma[column];
  }
  own_squares = team_sum(own_squares, LANES);
  if (lane == 0u && team < READERS) {
    squares[team] = own_squares;
  }
  workgroupBarrier();
  var all_squares = 0.0;
  for (var reader = 0u; reader < READERS; reader++) {
    all_squares += squares[reader];
  }
  let norm = inverseSqrt(all_squares / f32(HIDDEN) + EPSILON);
  var own_input: array<Chunk, EACH>;
#unroll i < EACH
#unroll v < 4
  let at = (lane + i * LANES) * CHUNK_ROOM + v * 4u;
  own_input[i][v] = vec4<f32>(input[at], input[at + 1u], input[at + 2u], input[at + 3u]);
#endunroll
#endunroll

  for (var start = 0u; start < EXPERTS; start += TEAMS * GATE_ROWS) {
    let first = start + team * GATE_ROWS;
    if (start > 0u) {
      router_words = gate_words(first, lane);
    }
#unroll r < GATE_ROWS
    var logit = 0.0;
#unroll i < EACH
    logit += chunk_dot(decode_gate(router_words[r * EACH + i]), own_input[i]);
#endunroll
    logit = team_sum(logit, LANES);
    if (lane == r % LANES && first + r < EXPERTS) {
      logits[first + r] = logit * norm;
    }
#endunroll
  }
  workgroupBarrier();
  choose(token, local);
  if (slot == 0u) {
    write_choice(token, local);
  }
  let choice = slot_choice(slot);
  let expert = choice.x;
  let weight = bitcast<f32>(choice.y);

  // Under way while gate and up are multiplied.
  let down_lane = local % DOWN_LANES;
  let down_team = local / DOWN_LANES;
  var final_words = down_words(expert, down_team * DOWN_ROWS, down_lane);
  var final_factors = down_factors(expert, down_team * DOWN_ROWS, down_lane);
  for (var start = 0u; start < WIDTH; start += TEAMS * ROWS) {
    let first = start + team * ROWS;
    let words = expert_words(expert, first, lane);
    let factors = expert_factors(expert, first, lane);
#unroll r < ROWS
    var gate_sum = 0.0;
    var up_sum = 0.0;
#unroll i < EACH
    gate_sum += factors[i] * chunk_dot(decode_chunk(words[r * EACH + i]), own_input[i]);
    up_sum += factors[EACH + i] * chunk_dot(decode_chunk(words[(ROWS + r) * EACH + i]), own_input[i]);
#endunroll
    gate_sum = team_sum(gate_sum, LANES);
    up_sum = team_sum(up_sum, LANES);
    if (lane == r % LANES && first + r < WIDTH) {
      h[room_of(first + r)] = silu(gate_sum * norm) * (up_sum * norm);
    }
#endunroll
  }
  workgroupBarrier();
  var own_h: array<Chunk, DOWN_EACH>;
#unroll i < DOWN_EACH
#unroll v < 4
  let at = (down_lane + i * DOWN_LANES) * CHUNK_ROOM + v * 4u;
  own_h[i][v] = vec4<f32>(h[at], h[at + 1u], h[at + 2u], h[at + 3u]);
#endunroll
#endunroll

  for (var start = 0u; start < HIDDEN; start += DOWN_TEAMS * DOWN_ROWS) {
    let first = start + down_team * DOWN_ROWS;
    if (start > 0u) {
      final_words = down_words(expert, first, down_lane);
      final_factors = down_factors(expert, first, down_lane);
    }
#unroll r < DOWN_ROWS
    var partial = 0.0;
#unroll i < DOWN_EACH
    partial += final_factors[i] * chunk_dot(decode_chunk(final_words[r * DOWN_EACH + i]), own_h[i]);
#endunroll
    partial = team_sum(partial, DOWN_LANES);
    if (down_lane == r % DOWN_LANES && first + r < HIDDEN) {
      put_up(token * BOARD_STRIDE + slot * HIDDEN + first + r, weight * partial);
    }
#endunroll
  }
  storageBarrier();
  if (local == 0u && arrives_last(token * BOARD_STRIDE + SLOTS * HIDDEN, SLOTS)) {
    is_last = 1u;
  }
  if (workgroupUniformLoad(&is_last) == 1u) {
    for (var column = local; column < HIDDEN; column += WORKGROUP) {
      x[token * X_STRIDE + column] += taken_sum(token * BOARD_STRIDE + column, HIDDEN, SLOTS);
    }
  }
}
