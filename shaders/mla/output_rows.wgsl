// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj, as mla/output.wgsl has them, without barriers: for software adapters, where a barrier costs more
// than that every invocation merges for itself.
//
// Bindings and result as there.
//
// Dispatch: (ceil(VALUE / (ROWS * WORKGROUP)), HEADS, ceil(tokens / TOKENS)) workgroups of WORKGROUP; an invocation has ROWS rows of weights, decoded once for TOKENS tokens. Sums are f32.
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"
#include "lib/ranges.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  let value = (group.x * WORKGROUP + local) * ROWS;
  let first_row = head * (NOPE + VALUE) + NOPE;
  // Tokens past the last repeat it, as rows do; they are not written.
  var records: array<u32, TOKENS>;
  var ranges: array<Ranges, TOKENS>;
  for (var t = 0u; t < TOKENS; t++) {
    records[t] = (min(first + t, count - 1u) * SPLITS * HEADS + head) * RECORD_VECTORS;
    ranges[t] = ranges_of(records[t]);
  }
  var sums = array<f32, TOKENS * ROWS>();
  for (var chunk = 0u; chunk < CHUNKS; chunk++) {
    var w: array<array<vec4<f32>, 4>, ROWS>;
#unroll r < ROWS
    let row = first_row + min(value + r, VALUE - 1u);
    var scale = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    scale *= scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
    w[r] = load_chunk(row * CHUNKS + chunk);
    w[r][0] *= scale;
    w[r][1] *= scale;
    w[r][2] *= scale;
    w[r][3] *= scale;
#endunroll
    for (var t = 0u; t < TOKENS; t++) {
      for (var s = 0u; s < ranges[t].used; s++) {
        let at = records[t] + s * HEADS * RECORD_VECTORS + chunk * 4u;
        let factor = ranges[t].factors[s];
        let a = partial[at] * factor;
        let b = partial[at + 1u] * factor;
        let c = partial[at + 2u] * factor;
        let d = partial[at + 3u] * factor;
#unroll r < ROWS
        sums[t * ROWS + r] += dot(w[r][0], a) + dot(w[r][1], b) + dot(w[r][2], c) + dot(w[r][3], d);
#endunroll
      }
    }
  }
  for (var t = 0u; t < TOKENS; t++) {
    for (var r = 0u; r < ROWS; r++) {
      if (first + t < count && value + r < VALUE) {
        out[(first + t) * OUT_STRIDE + head * VALUE + value + r] = sums[t * ROWS + r];
      }
    }
  }
}
