// What mla/attention.wgsl leaves of a token and a head: a record of each range of positions, HEADS * RECORD_VECTORS apart: the latent attended, then the largest score and the sum of its weights.
// Needs in the including shader: @group(0) @binding(n) var<storage, read> partial: array<vec4<f32>>. Constants: CHUNKS, SPLITS, HEADS.
const RECORD_VECTORS: u32 = CHUNKS * 4u + 1u;

struct Ranges {
  // Empty ranges come last, and their latents were not written.
  used: u32,
  // By what the latent of each is multiplied, to be summed.
  factors: array<f32, SPLITS>,
}

// @param record of the first range
fn ranges_of(record: u32) -> Ranges {
  var result = Ranges();
  var largest = -3e38;
  for (var s = 0u; s < SPLITS; s++) {
    let range = partial[record + s * HEADS * RECORD_VECTORS + CHUNKS * 4u];
    largest = max(largest, range.x);
    result.used = select(result.used, s + 1u, range.y > 0.0);
  }
  var total = 0.0;
  for (var s = 0u; s < result.used; s++) {
    let range = partial[record + s * HEADS * RECORD_VECTORS + CHUNKS * 4u];
    let factor = exp(range.x - largest);
    result.factors[s] = factor;
    total += factor * range.y;
  }
  for (var s = 0u; s < result.used; s++) {
    result.factors[s] /= total;
  }
  return result;
}
