// Rows times a vector in a workgroup, whose neighbours have 16 columns each of a row.

alias Chunk = array<vec4<f32>, 4>;

fn chunk_dot(weights: Chunk, values: Chunk) -> f32 {
  let sums = weights[0] * values[0] + weights[1] * values[1] + weights[2] * values[2] + weights[3] * values[3];
  return (sums.x + sums.y) + (sums.z + sums.w);
}

// The sum over `lanes` neighbours, a power of two, in each of them.
fn team_sum(value: f32, lanes: u32) -> f32 {
  var sum = value;
  for (var mask = 1u; mask < lanes; mask <<= 1u) {
    sum += subgroupShuffleXor(sum, mask);
  }
  return sum;
}
