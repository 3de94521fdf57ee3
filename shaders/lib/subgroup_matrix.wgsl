// 16 x 16 fragments of matrices, multiplied by a subgroup of 32: f16 times f16, summed in f32.
//
// Operands and results pass through one workgroup array of the including shader, whose elements hold 8 halves or 4 floats:
//
//   var<workgroup> tile: array<vec4<u32>, ...>;
//
// An operand's 16 rows of 16 halves lie OPERAND_STRIDE elements apart, those of the right one being the columns of its matrix; a result's 16 rows of 16 floats
// SUM_STRIDE elements. Both are constants of the including shader. All places are in elements, and the same for the whole subgroup.
// Constants: SUBGROUP_MATRIX = "hardware" (Dialect.subgroupMatrix), or "emulated": the same on any device, slowly, so that what is built on it can be tested there.

#if SUBGROUP_MATRIX == hardware
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

fn load_left(place: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&tile, place, OPERAND_STRIDE);
}

fn load_right(place: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&tile, place, OPERAND_STRIDE);
}

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(left, right, sum);
}

fn scale_sum(sum: Sum, factor: f32) -> Sum {
  return subgroupMatrixScalarMultiply(sum, factor);
}

fn store_sum(place: u32, sum: Sum, lane: u32) {
  subgroupMatrixStore<row_major>(&tile, place, sum, SUM_STRIDE);
}

// A loop's bound.
fn times(count: u32) -> u32 {
  return count;
}

// The subgroup's number in the workgroup, where invocations are numbered in order (Dialect.subgroupSize is 32).
fn subgroup_number(local: u32) -> u32 {
  return subgroupBroadcastFirst(local / 32u);
}
#else
// Operands stay where they are. Of a sum, invocation number l of the subgroup keeps column l % 16 of rows l / 16, l / 16 + 2, ...
struct Left {
  place: u32,
}

struct Right {
  place: u32,
}

struct Sum {
  upper: vec4<f32>,
  lower: vec4<f32>,
}

var<private> emulated_lane: u32;
var<workgroup> emulated_zero: atomic<u32>;

// A loop's bound, hidden: software adapters take half a minute to compile what they unroll here.
fn times(count: u32) -> u32 {
  return count + atomicLoad(&emulated_zero);
}

fn load_left(place: u32) -> Left {
  return Left(place);
}

fn load_right(place: u32) -> Right {
  return Right(place);
}

fn dot_halves(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return dot(unpack2x16float(a.x), unpack2x16float(b.x)) + dot(unpack2x16float(a.y), unpack2x16float(b.y))
    + dot(unpack2x16float(a.z), unpack2x16float(b.z)) + dot(unpack2x16float(a.w), unpack2x16float(b.w));
}

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  let column = right.place + (emulated_lane % 16u) * OPERAND_STRIDE;
  let b0 = tile[column];
  let b1 = tile[column + 1u];
  var result = sum;
  for (var i = 0u; i < times(4u); i++) {
    let row = left.place + (emulated_lane / 16u + 2u * i) * OPERAND_STRIDE;
    result.upper[i] += dot_halves(tile[row], b0) + dot_halves(tile[row + 1u], b1);
    let far = row + 8u * OPERAND_STRIDE;
    result.lower[i] += dot_halves(tile[far], b0) + dot_halves(tile[far + 1u], b1);
  }
  return result;
}

fn scale_sum(sum: Sum, factor: f32) -> Sum {
  return Sum(sum.upper * factor, sum.lower * factor);
}

fn store_sum(place: u32, sum: Sum, lane: u32) {
  let column = lane % 16u;
  for (var i = 0u; i < times(4u); i++) {
    let row = place + (lane / 16u + 2u * i) * SUM_STRIDE + column / 4u;
    tile[row][column % 4u] = bitcast<u32>(sum.upper[i]);
    tile[row + 8u * SUM_STRIDE][column % 4u] = bitcast<u32>(sum.lower[i]);
  }
}

fn subgroup_number(local: u32) -> u32 {
  emulated_lane = local % 32u;
  return local / 32u;
}
#endif
