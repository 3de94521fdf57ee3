// Where absorbed queries lie that are sums of two f16 numbers each, times a power of two for each token and head (lib/halves.wgsl): fragments of 16 columns of 16 heads, as a right operand of subgroup matrices
// is read, in elements of 8 f16 numbers: [tokens, HEADS / 16, (LATENT + ROPE) / 16, 2, 16, 2], of which the second 2 are the numbers rounded and what rounding lost. Then, in elements of 4, of each
// token and head 1 / its power of two.
// Constants, besides shapes: ABSORBED_TOKENS, of which there is room. HEADS, LATENT and ROPE are multiples of 16.
const ABSORBED_REST: u32 = 32u;
const ABSORBED_CHUNKS: u32 = (LATENT + ROPE) / 16u;

fn absorbed_place(token: u32, head: u32, chunk: u32) -> u32 {
  return ((token * (HEADS / 16u) + head / 16u) * ABSORBED_CHUNKS + chunk) * (2u * ABSORBED_REST) + head % 16u * 2u;
}

fn absorbed_power(token: u32, head: u32) -> u32 {
  return ABSORBED_TOKENS * (HEADS / 16u) * ABSORBED_CHUNKS * (4u * ABSORBED_REST) + token * HEADS + head;
}
