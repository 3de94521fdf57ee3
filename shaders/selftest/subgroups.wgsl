// Sums 1..64 with subgroup operations, to see that they work, how wide they are, and that lanes are numbered in order.
// Dispatch: 1 workgroup of 64. result: [0] sum, [1] subgroup size seen, [2] invocations whose lane is not local % size.
@group(0) @binding(0) var<storage, read_write> result: array<u32>;

var<workgroup> sums: array<u32, 64>;
var<workgroup> misplaced: array<u32, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_size) size: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let sum = subgroupAdd(local + 1u);
  sums[local] = select(0u, sum, lane == 0u);
  misplaced[local] = select(0u, 1u, lane != local % size);
  workgroupBarrier();
  if (local == 0u) {
    var total = 0u;
    var wrong = 0u;
    for (var i = 0u; i < 64u; i++) {
      total += sums[i];
      wrong += misplaced[i];
    }
    result[0] = total;
    result[1] = size;
    result[2] = wrong;
  }
}
