// RoPE of neighbouring pairs. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> rope_table: array<vec2<f32>>;   (cos, sin) [positions, ROPE / 2]

// Of columns 4 vector .. 4 vector + 4.
fn rotated(pairs: vec4<f32>, position: u32, vector: u32) -> vec4<f32> {
  let at = position * (ROPE / 2u) + vector * 2u;
  let a = rope_table[at];
  let b = rope_table[at + 1u];
  return vec4<f32>(
    pairs.x * a.x - pairs.y * a.y, pairs.x * a.y + pairs.y * a.x, pairs.z * b.x - pairs.w * b.y, pairs.z * b.y + pairs.w * b.x);
}
