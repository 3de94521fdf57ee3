// out[t] = table[id of token t]; a token that the host does not know yet is the one last sampled, or last drafted, for its sequence.
//
// With CHAINED it also puts into the batch, for whoever comes after it, the places that the host does not know either: where the last verified step (settle/settle.wgsl) left its
// sequences. In the batch (packages/kernels/src/batch.ts) positions FROM_FIRST + i are i behind the first row that was verified, FROM_LAST + i behind the last that stands, modulo 2^30, so that i may be negative; an output
// row MOVES + r is as many rows behind r as drafts of its sequence were right; tokens FROM_RING + o, which stay, are what output o of the step in ring row batch[3] chose.
//
// weights     [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT (bf16, f16, f32): rows ROW_START .. ROW_START + ROW_COUNT of the table [VOCAB, ..]
// last_tokens [sequence slots] u32, sampled
// last_drafts [MAX_DRAFTS, DRAFT_STRIDE] u32, by sequence slot: drafted
// out         [tokens, OUT_STRIDE] f32; whole chunks are written, zeros beyond the last column
// ring        [.., RING_ROWS] u32 as settle.wgsl leaves it
// settled     [sequence slots, 2] u32 as settle.wgsl leaves it
//
// Dispatch: one workgroup of 64 a token, for each part; a part that does not hold the token's row leaves it to the others. Of the batch a workgroup changes
// its token's position and the output row of its number, and reads nothing that another changes; for a second part they are in place already.
// Exact. An id past the vocabulary, or NO_TOKEN of the ring, becomes 0: the host checks ids, this only keeps a bad one from reading elsewhere.
#include "lib/weights.wgsl"
#include "lib/batch.wgsl"

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
#if CHAINED
@group(0) @binding(1) var<storage, read_write> batch: array<u32>;
#else
@group(0) @binding(1) var<storage, read> batch: array<u32>;
#endif
@group(0) @binding(2) var<storage, read> last_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> last_drafts: array<u32>;
@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
#if CHAINED
@group(0) @binding(5) var<storage, read> ring: array<u32>;
@group(0) @binding(6) var<storage, read> settled: array<vec2<u32>>;
#endif

const TOKEN_FROM_SAMPLER: u32 = 0xffffffffu;
// Less i: draft number i.
const TOKEN_FROM_DRAFT: u32 = 0xfffffffeu;
#if CHAINED
const FROM_RING: u32 = 0xf0000000u;
const FROM_FIRST: u32 = 0x80000000u;
const FROM_LAST: u32 = 0xc0000000u;
const OFFSET: u32 = 0x3fffffffu;
const MOVES: u32 = 0x80000000u;

fn place(token: u32) {
  // There are no more outputs than tokens.
  let row = output_row(token);
  if (token < output_count() && row >= MOVES) {
    let first = row - MOVES;
    batch[BATCH_HEADER + 3u * MAX_TOKENS + token] = first + settled[token_sequence(first)].y;
  }
  let position = token_position(token);
  if (position >= FROM_FIRST) {
    let at = settled[token_sequence(token)];
    batch[BATCH_HEADER + MAX_TOKENS + token] = (at.x + select(0u, at.y, position >= FROM_LAST) + position) & OFFSET;
  }
}
#endif

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let token = group.x;
  if (token >= token_count()) {
    return;
  }
#if CHAINED
  if (local == 0u) {
    place(token);
  }
#endif
  var id = token_id(token);
  if (id == TOKEN_FROM_SAMPLER) {
    id = last_tokens[token_sequence(token)];
  } else if (id > TOKEN_FROM_DRAFT - MAX_DRAFTS) {
    id = last_drafts[(TOKEN_FROM_DRAFT - id) * DRAFT_STRIDE + token_sequence(token)];
#if CHAINED
  } else if (id >= FROM_RING && id < FROM_RING + RING_ROWS) {
    id = ring[batch[3] * RING_ROWS + id - FROM_RING];
#endif
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
