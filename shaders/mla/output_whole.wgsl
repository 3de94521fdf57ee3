// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj, as mla/output.wgsl has them, as mla/output_rows.wgsl does it, for software adapters with
// subgroups: a lane merges one vector of latents for all lanes of its subgroup, because loads cost more than what is done with them.
//
// Bindings and result as there.
//
// Dispatch: (ceil(VALUE / (ROWS * LANES)), HEADS, ceil(tokens / TOKENS)) workgroups of LANES, which is the subgroup size, a multiple of 4; a lane has ROWS rows of weights, decoded once for
// TOKENS tokens. BLOCK_CHUNKS = LANES / 4. Sums are f32.
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

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let first = group.z * TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  let value = (group.x * LANES + local) * ROWS;
  let first_row = head * (NOPE + VALUE) + NOPE;
  // Tokens past the last repeat it, as rows do; they are not written.
  var records: array<u32, TOKENS>;
  var ranges: array<Ranges, TOKENS>;
  for (var t = 0u; t < TOKENS; t++) {
    records[t] = (min(first + t, count - 1u) * SPLITS * HEADS + head) * RECORD_VECTORS;
    ranges[t] = ranges_of(records[t]);
  }
  var sums = array<f32, TOKENS * ROWS>();
  for (var block = 0u; block < CHUNKS; block += BLOCK_CHUNKS) {
    // Vectors past the last repeat it, and count as zero.
    let vector = block * 4u + lane;
    let inside = select(0.0, 1.0, vector < CHUNKS * 4u);
    var own = array<vec4<f32>, TOKENS>();
#unroll t < TOKENS
    for (var s = 0u; s < ranges[t].used; s++) {
      own[t] += partial[records[t] + s * HEADS * RECORD_VECTORS + min(vector, CHUNKS * 4u - 1u)] * (ranges[t].factors[s] * inside);
    }
#endunroll
#unroll c < BLOCK_CHUNKS
    let chunk = min(block + c, CHUNKS - 1u);
    var latents: array<vec4<f32>, TOKENS * 4>;
#unroll t < TOKENS
#unroll v < 4
    latents[t * 4u + v] = subgroupBroadcast(own[t], c * 4u + v);
#endunroll
#endunroll
#unroll r < ROWS
    let row = first_row + min(value + r, VALUE - 1u);
    var scale = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    scale *= scales[row / 128u * SCALE_COLUMNS + chunk / 8u];
#endif
    let w = load_chunk(row * CHUNKS + chunk);
#unroll t < TOKENS
    let products = dot(w[0], latents[t * 4u]) + dot(w[1], latents[t * 4u + 1u]) + dot(w[2], latents[t * 4u + 2u]) + dot(w[3], latents[t * 4u + 3u]);
    sums[t * ROWS + r] += products * scale;
#endunroll
#endunroll
#endunroll
  }
  for (var t = 0u; t < TOKENS; t++) {
    for (var r = 0u; r < ROWS; r++) {
      if (first + t < count && value + r < VALUE) {
        out[(first + t) * OUT_STRIDE + head * VALUE + value + r] = sums[t * ROWS + r];
      }
    }
  }
}
