// Exact products of four weight rows with one input, a chunk of 16 columns at a time; each sum's components are columns apart by four.
#include "lib/exactReduce.wgsl"

const ROWS: u32 = 4u;

fn no_rows() -> array<ExactSum, ROWS> {
  let zero = ExactSum(vec4<f32>(0.0), vec4<f32>(0.0));
  return array<ExactSum, ROWS>(zero, zero, zero, zero);
}

fn add_chunk(sum: ExactSum, weights: array<vec4<f32>, 4>, input: array<vec4<f32>, 4>, factor: f32) -> ExactSum {
  var part = ExactSum(vec4<f32>(0.0), vec4<f32>(0.0));
  part = exact_add_products(part, weights[0], input[0]);
  part = exact_add_products(part, weights[1], input[1]);
  part = exact_add_products(part, weights[2], input[2]);
  part = exact_add_products(part, weights[3], input[3]);
  return exact_add_scaled(sum, part, vec4<f32>(factor));
}
