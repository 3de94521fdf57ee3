// What a step works on, written by the host before each step. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> batch: array<u32>;
//
// Constants: MAX_TOKENS. Layout (packages/kernels/src/batch.ts): tokenCount, outputCount, ringRow, the ring row of the step verified before (settle/settle.wgsl), then MAX_TOKENS each of
// token ids, positions, sequence slots, rows whose logits are wanted, for each of these the token that is known to follow it, or CHOSEN,
// and in a draft the rows of the step before that its rows go on from.

const BATCH_HEADER: u32 = 4u;
// No token is known to follow: one is chosen.
const CHOSEN: u32 = 0xffffffffu;

fn token_count() -> u32 {
  return batch[0];
}

fn output_count() -> u32 {
  return batch[1];
}

// The row of the ring of sampled tokens that this step writes.
fn ring_row() -> u32 {
  return batch[2];
}

// TOKEN_FROM_SAMPLER stands for the token last sampled for the sequence.
fn token_id(token: u32) -> u32 {
  return batch[BATCH_HEADER + token];
}

// The token's place in its sequence, from 0; it attends to positions 0 .. position.
fn token_position(token: u32) -> u32 {
  return batch[BATCH_HEADER + MAX_TOKENS + token];
}

// The sequence's slot: its row of the block table, and of whatever is kept by sequence.
fn token_sequence(token: u32) -> u32 {
  return batch[BATCH_HEADER + 2u * MAX_TOKENS + token];
}

// The token (row of the batch) whose logits are output number `output`.
fn output_row(output: u32) -> u32 {
  return batch[BATCH_HEADER + 3u * MAX_TOKENS + output];
}

// The token after output number `output`, where it is given; else CHOSEN.
fn given_token(output: u32) -> u32 {
  return batch[BATCH_HEADER + 4u * MAX_TOKENS + output];
}

// In a draft: the row of the step before that this one goes on from.
fn source_row(token: u32) -> u32 {
  return batch[BATCH_HEADER + 5u * MAX_TOKENS + token];
}
