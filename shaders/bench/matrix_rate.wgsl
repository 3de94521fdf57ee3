// Products by subgroup matrices and nothing else, to see how fast they can be: each of 8 subgroups multiplies 2 fragments by 4, ROUNDS times, without loading anything.
// Left fragment i is of ones times i + 1, right fragment j of ones times j + 1.
//
// results [workgroups, 8] f32: an element of each product's sum, 16 ROUNDS (i + 1) (j + 1) at 4 i + j, of subgroup 7.
// Dispatch: workgroups of 256. Constants: ROUNDS; SUBGROUP_MATRIX. Workgroup memory: 11.5 KiB.
const OPERAND_STRIDE: u32 = 3u;
const FRAGMENT: u32 = 16u * OPERAND_STRIDE;
const SUM_STRIDE: u32 = 5u;
// After 6 operands, a result of each subgroup.
const SUMS_PLACE: u32 = 6u * FRAGMENT;
var<workgroup> tile: array<vec4<u32>, SUMS_PLACE + 8u * 16u * SUM_STRIDE>;

#include "lib/subgroup_matrix.wgsl"

@group(0) @binding(0) var<storage, read_write> results: array<f32>;

// Element (15, 15), after all have stored theirs.
fn write_element(group: u32, local: u32, fragment: u32, sum: Sum) {
  let subgroup = subgroup_number(local);
  let place = SUMS_PLACE + subgroup * 16u * SUM_STRIDE;
  workgroupBarrier();
  store_sum(place, sum, local % 32u);
  workgroupBarrier();
  if (local == 255u) {
    results[group * 8u + fragment] = bitcast<f32>(tile[place + 15u * SUM_STRIDE + 3u].w);
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  for (var i = local; i < SUMS_PLACE; i += 256u) {
    let fragment = i / FRAGMENT;
    let value = f32(select(fragment - 1u, fragment + 1u, fragment < 2u));
    tile[i] = vec4<u32>(pack2x16float(vec2<f32>(value)));
  }
  workgroupBarrier();
  // Sets what an emulated subgroup needs.
  let unused = subgroup_number(local);
  let x0 = load_left(0u);
  let x1 = load_left(FRAGMENT);
  let w0 = load_right(2u * FRAGMENT);
  let w1 = load_right(3u * FRAGMENT);
  let w2 = load_right(4u * FRAGMENT);
  let w3 = load_right(5u * FRAGMENT);
  var s00: Sum;
  var s01: Sum;
  var s02: Sum;
  var s03: Sum;
  var s10: Sum;
  var s11: Sum;
  var s12: Sum;
  var s13: Sum;
  for (var round = 0u; round < times(ROUNDS); round++) {
    s00 = multiply_add(x0, w0, s00);
    s01 = multiply_add(x0, w1, s01);
    s02 = multiply_add(x0, w2, s02);
    s03 = multiply_add(x0, w3, s03);
    s10 = multiply_add(x1, w0, s10);
    s11 = multiply_add(x1, w1, s11);
    s12 = multiply_add(x1, w2, s12);
    s13 = multiply_add(x1, w3, s13);
  }
  write_element(group.x, local, 0u, s00);
  write_element(group.x, local, 1u, s01);
  write_element(group.x, local, 2u, s02);
  write_element(group.x, local, 3u, s03);
  write_element(group.x, local, 4u, s10);
  write_element(group.x, local, 5u, s11);
  write_element(group.x, local, 6u, s12);
  write_element(group.x, local, 7u, s13);
}
