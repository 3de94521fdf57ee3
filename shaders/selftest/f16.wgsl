// a b + c in f16, of numbers that come out exactly. Dispatch: 1 workgroup of 64. numbers: [64, 4] f32, a, b, c and 1 unused; results: [64] f32.
@group(0) @binding(0) var<storage, read> numbers: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> results: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) local: u32) {
  let h = vec4<f16>(numbers[local]);
  results[local] = f32(h.x * h.y + h.z);
}
