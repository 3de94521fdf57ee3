// Counts the e4m3 NaN codes, bytes 0x7f and 0xff, and adds them to the counter.
//
// codes   u32 words of four codes each, as many as are bound
// counter u32
//
// Dispatch: up to 65535 workgroups of 256; invocations stride over the words.
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read_write> counter: atomic<u32>;

@compute @workgroup_size(256)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let words = arrayLength(&codes);
  var found = 0u;
  for (var i = id.x; i < words; i += groups.x * 256u) {
    // A byte of seven ones carries into its eighth bit, and no further.
    found += countOneBits(((codes[i] & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u);
  }
  if (found > 0u) {
    atomicAdd(&counter, found);
  }
}
