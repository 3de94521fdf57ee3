// Products of four rows of weights with up to 8 rows of x, for shaders whose invocations stride along the columns: a weight is decoded once
// for all rows of x.
//
// Constants: WORKGROUP, 32 or 64; SINGLE_SUBGROUP (true: the workgroup is one subgroup, and no barrier is needed; false: WORKGROUP is 64).
// Needs lib/chunk.wgsl.

const STREAM_TOKENS: u32 = 8u;
// Invocations that end up with the totals of the same row of x.
const STREAM_PARTS: u32 = WORKGROUP / STREAM_TOKENS;

// An invocation's sums of each row of x, with four rows of weights. Named rather than indexed, so that they stay in registers.
struct StreamSums {
  t0: vec4<f32>,
  t1: vec4<f32>,
  t2: vec4<f32>,
  t3: vec4<f32>,
  t4: vec4<f32>,
  t5: vec4<f32>,
  t6: vec4<f32>,
  t7: vec4<f32>,
}

#if !SINGLE_SUBGROUP
var<workgroup> stream_partial: array<vec4<f32>, STREAM_TOKENS * WORKGROUP>;
#endif

// Sums over the workgroup, of row local / STREAM_PARTS of x with the four rows of weights; worth nothing where that is not below `count`.
// Must be reached in uniform control flow.
fn stream_total(sums: StreamSums, count: u32, local: u32) -> vec4<f32> {
#if SINGLE_SUBGROUP
  let row = local / STREAM_PARTS;
  var total = subgroupAdd(sums.t0);
  if (count > 1u) {
    total = select(total, subgroupAdd(sums.t1), row == 1u);
  }
  if (count > 2u) {
    total = select(total, subgroupAdd(sums.t2), row == 2u);
  }
  if (count > 3u) {
    total = select(total, subgroupAdd(sums.t3), row == 3u);
  }
  if (count > 4u) {
    total = select(total, subgroupAdd(sums.t4), row == 4u);
  }
  if (count > 5u) {
    total = select(total, subgroupAdd(sums.t5), row == 5u);
  }
  if (count > 6u) {
    total = select(total, subgroupAdd(sums.t6), row == 6u);
  }
  if (count > 7u) {
    total = select(total, subgroupAdd(sums.t7), row == 7u);
  }
  return total;
#else
  stream_partial[local] = sums.t0;
  stream_partial[local + WORKGROUP] = sums.t1;
  stream_partial[local + 2u * WORKGROUP] = sums.t2;
  stream_partial[local + 3u * WORKGROUP] = sums.t3;
  stream_partial[local + 4u * WORKGROUP] = sums.t4;
  stream_partial[local + 5u * WORKGROUP] = sums.t5;
  stream_partial[local + 6u * WORKGROUP] = sums.t6;
  stream_partial[local + 7u * WORKGROUP] = sums.t7;
  workgroupBarrier();
  // Two levels of eight.
  let row = local / STREAM_PARTS * WORKGROUP;
  let part = row + local % STREAM_PARTS;
  var some = vec4<f32>(0.0);
  for (var i = 0u; i < WORKGROUP; i += STREAM_PARTS) {
    some += stream_partial[part + i];
  }
  workgroupBarrier();
  stream_partial[part] = some;
  workgroupBarrier();
  var total = vec4<f32>(0.0);
  for (var i = 0u; i < STREAM_PARTS; i++) {
    total += stream_partial[row + i];
  }
  return total;
#endif
}

// 16 columns of four rows: [quad], each a column for every weight's column, with four rows.
fn rows_by_column(a: array<vec4<f32>, 4>, b: array<vec4<f32>, 4>, c: array<vec4<f32>, 4>, d: array<vec4<f32>, 4>) -> array<mat4x4<f32>, 4> {
  return array<mat4x4<f32>, 4>(
    transpose(mat4x4<f32>(a[0], b[0], c[0], d[0])), transpose(mat4x4<f32>(a[1], b[1], c[1], d[1])),
    transpose(mat4x4<f32>(a[2], b[2], c[2], d[2])), transpose(mat4x4<f32>(a[3], b[3], c[3], d[3])));
}

fn add_quad(sums: vec4<f32>, weights_of_quad: mat4x4<f32>, values: vec4<f32>) -> vec4<f32> {
  return fma(weights_of_quad[3], vec4<f32>(values.w), fma(weights_of_quad[2], vec4<f32>(values.z),
    fma(weights_of_quad[1], vec4<f32>(values.y), fma(weights_of_quad[0], vec4<f32>(values.x), sums))));
}

// Sums of 16 columns for the four rows.
fn chunk_products(rows: array<mat4x4<f32>, 4>, x0: vec4<f32>, x1: vec4<f32>, x2: vec4<f32>, x3: vec4<f32>) -> vec4<f32> {
  return add_quad(add_quad(add_quad(add_quad(vec4<f32>(0.0), rows[0], x0), rows[1], x1), rows[2], x2), rows[3], x3);
}
