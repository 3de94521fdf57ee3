// 16 x 16 fragments of matrices, multiplied by a subgroup of 32: f16 times f16, summed in f32.
//
// Operands and results pass through one workgroup array of the including shader, whose elements hold 8 halves or 4 floats:
//
//   var<workgroup> tile: array<vec4<u32>, ...>;
//
// An operand's 16 rows of 16 halves lie OPERAND_STRIDE elements apart, those of the right one being the columns of its matrix; a result's 16 rows of 16 floats
// SUM_STRIDE elements. Both are constants of the including shader. All places are in elements, and the same for the whole subgroup.
// With STORED_OPERANDS right ones are also loaded from `var<storage, read> halves: array<vec4<u32>>`, where a fragment's 16 columns of 16 halves lie one after the other.
// With STORED_SUMS results may go to `var<storage, read_write> partial: array<vec4<f32>>`, rows so many vectors apart as is said.
// With OPERAND_STRIDES operands say how far apart their rows lie, and those of a right one may be its matrix's rows.
// With EMULATED_SUBGROUPS, how many a workgroup has, `subgroup_most` is emulated too.
// Constants: SUBGROUP_MATRIX = "hardware" (Dialect.subgroupMatrix), or "emulated": the same on any device, slowly, so that what is built on it can be tested there.

#if SUBGROUP_MATRIX == hardware
alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

#if OPERAND_STRIDES
fn load_left(place: u32, stride: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&tile, place, stride);
}

fn load_right(place: u32, stride: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&tile, place, stride);
}

fn load_right_rows(place: u32, stride: u32) -> Right {
  return subgroupMatrixLoad<Right, row_major>(&tile, place, stride);
}

fn load_sum(place: u32, lane: u32) -> Sum {
  return subgroupMatrixLoad<Sum, row_major>(&tile, place, SUM_STRIDE);
}
#else
fn load_left(place: u32) -> Left {
  return subgroupMatrixLoad<Left, row_major>(&tile, place, OPERAND_STRIDE);
}

fn load_right(place: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&tile, place, OPERAND_STRIDE);
}
#endif

#if STORED_OPERANDS
fn load_right_stored(place: u32) -> Right {
  return subgroupMatrixLoad<Right, col_major>(&halves, place, 2u);
}
#endif

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  return subgroupMatrixMultiplyAccumulate(left, right, sum);
}

fn scale_sum(sum: Sum, factor: f32) -> Sum {
  return subgroupMatrixScalarMultiply(sum, factor);
}

fn store_sum(place: u32, sum: Sum, lane: u32) {
  subgroupMatrixStore<row_major>(&tile, place, sum, SUM_STRIDE);
}

#if STORED_SUMS
fn store_sum_stored(place: u32, stride: u32, sum: Sum, lane: u32) {
  subgroupMatrixStore<row_major>(&partial, place, sum, stride);
}
#endif

// The largest of a subgroup's values.
fn subgroup_most(value: u32) -> u32 {
  return subgroupMax(value);
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
// A left operand stays where it is. Of a right one and of a sum, invocation number l of the subgroup keeps column l % 16: all of it, and of rows l / 16, l / 16 + 2, ...
struct Left {
  place: u32,
#if OPERAND_STRIDES
  stride: u32,
#endif
}

struct Right {
  upper: vec4<u32>,
  lower: vec4<u32>,
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

#if EMULATED_SUBGROUPS
var<private> emulated_subgroup: u32;
var<workgroup> emulated_most: array<atomic<u32>, EMULATED_SUBGROUPS>;

// In uniform control flow.
fn subgroup_most(value: u32) -> u32 {
  workgroupBarrier();
  atomicStore(&emulated_most[emulated_subgroup], 0u);
  workgroupBarrier();
  atomicMax(&emulated_most[emulated_subgroup], value);
  workgroupBarrier();
  return atomicLoad(&emulated_most[emulated_subgroup]);
}
#endif

fn dot_halves(a: vec4<u32>, b: vec4<u32>) -> f32 {
  return dot(unpack2x16float(a.x), unpack2x16float(b.x)) + dot(unpack2x16float(a.y), unpack2x16float(b.y))
    + dot(unpack2x16float(a.z), unpack2x16float(b.z)) + dot(unpack2x16float(a.w), unpack2x16float(b.w));
}

fn add_products(left: u32, stride: u32, right: Right, sum: Sum) -> Sum {
  var result = sum;
  for (var i = 0u; i < times(4u); i++) {
    let row = left + (emulated_lane / 16u + 2u * i) * stride;
    result.upper[i] += dot_halves(tile[row], right.upper) + dot_halves(tile[row + 1u], right.lower);
    let far = row + 8u * stride;
    result.lower[i] += dot_halves(tile[far], right.upper) + dot_halves(tile[far + 1u], right.lower);
  }
  return result;
}

#if OPERAND_STRIDES
fn load_left(place: u32, stride: u32) -> Left {
  return Left(place, stride);
}

fn load_right(place: u32, stride: u32) -> Right {
  let column = place + (emulated_lane % 16u) * stride;
  return Right(tile[column], tile[column + 1u]);
}

fn load_right_rows(place: u32, stride: u32) -> Right {
  let column = emulated_lane % 16u;
  var right = Right();
  for (var i = 0u; i < times(4u); i++) {
    for (var k = 0u; k < 2u; k++) {
      let row = place + (2u * i + k) * stride + column / 8u;
      let shift = column % 2u * 16u;
      right.upper[i] |= ((tile[row][column / 2u % 4u] >> shift) & 0xffffu) << (16u * k);
      right.lower[i] |= ((tile[row + 8u * stride][column / 2u % 4u] >> shift) & 0xffffu) << (16u * k);
    }
  }
  return right;
}

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  return add_products(left.place, left.stride, right, sum);
}

fn load_sum(place: u32, lane: u32) -> Sum {
  var sum: Sum;
  let column = lane % 16u;
  for (var i = 0u; i < times(4u); i++) {
    let row = place + (lane / 16u + 2u * i) * SUM_STRIDE + column / 4u;
    sum.upper[i] = bitcast<f32>(tile[row][column % 4u]);
    sum.lower[i] = bitcast<f32>(tile[row + 8u * SUM_STRIDE][column % 4u]);
  }
  return sum;
}
#else
fn load_left(place: u32) -> Left {
  return Left(place);
}

fn load_right(place: u32) -> Right {
  let column = place + (emulated_lane % 16u) * OPERAND_STRIDE;
  return Right(tile[column], tile[column + 1u]);
}

fn multiply_add(left: Left, right: Right, sum: Sum) -> Sum {
  return add_products(left.place, OPERAND_STRIDE, right, sum);
}
#endif

#if STORED_OPERANDS
fn load_right_stored(place: u32) -> Right {
  let column = place + (emulated_lane % 16u) * 2u;
  return Right(halves[column], halves[column + 1u]);
}
#endif

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

#if STORED_SUMS
fn store_sum_stored(place: u32, stride: u32, sum: Sum, lane: u32) {
  let column = lane % 16u;
  for (var i = 0u; i < times(4u); i++) {
    let row = place + (lane / 16u + 2u * i) * stride + column / 4u;
    partial[row][column % 4u] = sum.upper[i];
    partial[row + 8u * stride][column % 4u] = sum.lower[i];
  }
}
#endif

fn subgroup_number(local: u32) -> u32 {
  emulated_lane = local % 32u;
#if EMULATED_SUBGROUPS
  emulated_subgroup = local / 32u;
#endif
  return local / 32u;
}
#endif
