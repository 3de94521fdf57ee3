// y[t] = (y[t] +) sum over slots, in their order, of weight * out[t, slot].
//
// routing [tokens, SLOTS] of (expert, weight as f32 bits)
// out     [tokens * SLOTS, OUT_STRIDE] f32
// y       [tokens, Y_STRIDE] f32, columns 0 .. HIDDEN; with RESIDUAL the sums are added to it
//
// Dispatch: (ceil(HIDDEN / 64), tokens) workgroups of 64.

@group(0) @binding(0) var<storage, read> routing: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read> out: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let column = group.x * 64u + local;
  if (column >= HIDDEN) {
    return;
  }
  let token = group.y;
  var sum = 0.0;
  for (var slot = 0u; slot < SLOTS; slot++) {
    let row = token * SLOTS + slot;
    sum += bitcast<f32>(routing[row].y) * out[row * OUT_STRIDE + column];
  }
#if RESIDUAL
  y[token * Y_STRIDE + column] += sum;
#else
  y[token * Y_STRIDE + column] = sum;
#endif
}
