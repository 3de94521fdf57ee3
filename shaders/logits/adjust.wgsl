// What a request asks of its logits before a token is chosen from them: bias, penalties, and the tokens that a constraint allows.
//
// logits   [rows, ROW_VECTORS] vec4 of f32 bits, of which VOCAB columns count; adjusted: the same
// batch, params (lib/batch.wgsl, lib/sampling.wgsl)
// history  [sequence slots, VOCAB] u32: bit 31: the token is in the prompt; below it: how often it was generated
// bias     [sequence slots, VOCAB] f32
// masks    [rows, 1 + MASK_WORDS] u32: whether the row is masked, then a bit a token, lowest first: 1 allows it
//
// In this order: the bias is added; a token of the prompt or the answer has its logit divided by the repetition penalty if positive, else multiplied (Keskar et al.,
// arXiv 1909.05858, section 4.1, with the sign looked at as Hugging Face's RepetitionPenaltyLogitsProcessor does); frequency times its count and, if it was generated at all,
// presence are subtracted (OpenAI's API reference). Rows that ask for nothing are copied bit for bit.
//
// Dispatch: (ceil(VOCAB / 1024), rows) workgroups of 256.
#include "lib/batch.wgsl"
#include "lib/sampling.wgsl"

@group(0) @binding(0) var<storage, read> logits: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> adjusted: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> batch: array<u32>;
@group(0) @binding(3) var<storage, read> params: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> history: array<u32>;
@group(0) @binding(5) var<storage, read> bias: array<f32>;
@group(0) @binding(6) var<storage, read> masks: array<u32>;

const MINUS_INFINITY: u32 = 0xff800000u;
const IN_PROMPT: u32 = 0x80000000u;

fn penalized(bits: u32, place: u32, penalties: vec4<u32>) -> u32 {
  // Minus infinity and NaN are never chosen, and arithmetic on them is nobody's promise.
  if ((bits & 0x7f800000u) == 0x7f800000u) {
    return bits;
  }
  let seen = history[place];
  var logit = bitcast<f32>(bits) + bias[place];
  if (seen != 0u) {
    let repetition = bitcast<f32>(penalties.x);
    logit = select(logit * repetition, logit / repetition, logit > 0.0);
  }
  let times = seen & ~IN_PROMPT;
  if (times > 0u) {
    logit -= f32(times) * bitcast<f32>(penalties.y) + bitcast<f32>(penalties.z);
  }
  return bitcast<u32>(logit);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.y;
  let vector = group.x * 256u + local;
  if (vector * 4u >= VOCAB || row >= output_count()) {
    return;
  }
  let sequence = token_sequence(output_row(row));
  let penalties = params[sequence * 4u + 2u];
  let masked = masks[row * (1u + MASK_WORDS)] != 0u;
  var bits = logits[row * ROW_VECTORS + vector];
  for (var c = 0u; c < 4u; c++) {
    let token = vector * 4u + c;
    if (token < VOCAB) {
      if (penalties.w != 0u) {
        bits[c] = penalized(bits[c], sequence * VOCAB + token, penalties);
      }
      if (masked && ((masks[row * (1u + MASK_WORDS) + 1u + token / 32u] >> (token % 32u)) & 1u) == 0u) {
        bits[c] = MINUS_INFINITY;
      }
    }
  }
  adjusted[row * ROW_VECTORS + vector] = bits;
}
