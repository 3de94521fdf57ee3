// out[t] = table[id of token t]; a token that the host does not know yet is the one last sampled, or last drafted, for its sequence.
//
// weights     [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT (bf16, f16, f32): rows ROW_START .. ROW_START + ROW_COUNT of the table [VOCAB, ..]
// last_tokens [sequence slots] u32, sampled
// last_drafts [MAX_DRAFTS, DRAFT_STRIDE] u32, by sequence slot: drafted
// out         [tokens, OUT_STRIDE] f32; whole chunks are written, zeros beyond the last column
//
// Dispatch: one workgroup of 64 a token, for each part; a part that does not hold the token's row leaves it to the others.
// Exact. An id past the vocabulary becomes 0: the host checks ids, this only keeps a bad one from reading elsewhere.
#include "lib/weights.wgsl"
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> batch: array<u32>;
@group(0) @binding(2) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> last_drafts: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;

const TOKEN_FROM_SAMPLER: u32 = 0xffffffffu;
// Less i: draft number i.
const TOKEN_FROM_DRAFT: u32 = 0xfffffffeu;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
  var id = token_id(token);
  if (id == TOKEN_FROM_SAMPLER) {
    id = last_tokens[token_sequence(token)];
  } else if (id > TOKEN_FROM_DRAFT - MAX_DRAFTS) {
    id = last_drafts[(TOKEN_FROM_DRAFT - id) * DRAFT_STRIDE + token_sequence(token)];
  }
  id = select(0u, id, id < VOCAB);
  if (id < ROW_START || id >= ROW_START + ROW_COUNT) {
    return;
  }
  for (var chunk = local; chunk < CHUNKS; chunk += 64u) {
    let values = load_chunk((id - ROW_START) * CHUNKS + chunk);
    let base = token * (OUT_STRIDE / 4u) + chunk * 4u;
    out[base] = values[0];
    out[base + 1u] = values[1];
    out[base + 2u] = values[2];
    out[base + 3u] = values[3];
  }
}
