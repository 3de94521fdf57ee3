// Products by subgroup matrices as lib/matrix_tile.wgsl makes them: two subgroups multiply matrices of their own with a common one, from and to workgroup memory with
// padded rows, scale the sum and multiply again: 3/2 A B.
// Dispatch: 1 workgroup of 64. operands: A of subgroup 0, A of subgroup 1, B by columns, 16 x 16 f16 each; results: [2, 16, 16] f32.
const OPERAND_STRIDE: u32 = 3u;
const SUM_STRIDE: u32 = 5u;
const RIGHT_PLACE: u32 = 32u * OPERAND_STRIDE;
const SUMS_PLACE: u32 = 48u * OPERAND_STRIDE;
var<workgroup> tile: array<vec4<u32>, SUMS_PLACE + 32u * SUM_STRIDE>;

#include "lib/subgroup_matrix.wgsl"

@group(0) @binding(0) var<storage, read> operands: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  for (var i = local; i < 96u; i += 64u) {
    tile[i / 2u * OPERAND_STRIDE + i % 2u] = operands[i];
  }
  workgroupBarrier();
  let subgroup = subgroup_number(local);
  let left = load_left(subgroup * 16u * OPERAND_STRIDE);
  let right = load_right(RIGHT_PLACE);
  var sum: Sum;
  sum = multiply_add(left, right, sum);
  sum = scale_sum(sum, 0.5);
  sum = multiply_add(left, right, sum);
  store_sum(SUMS_PLACE + subgroup * 16u * SUM_STRIDE, sum, local % 32u);
  workgroupBarrier();
  for (var i = local; i < 512u; i += 64u) {
    results[i] = bitcast<f32>(tile[SUMS_PLACE + i / 16u * SUM_STRIDE + i % 16u / 4u][i % 4u]);
  }
}
