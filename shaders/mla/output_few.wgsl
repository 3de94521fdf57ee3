// The attended latents, merged over ranges of positions, times the value rows of kv_b_proj, as mla/output.wgsl has them, for a few
// tokens: the weights are on their way while the ranges are merged, and all invocations merge.
//
// Bindings and result as there.
//
// Dispatch: (ceil(VALUE / VALUES), HEADS, ceil(tokens / TOKENS)) workgroups of WORKGROUP. Groups of 8 invocations have two values each,
// and an invocation every eighth chunk of their rows, so that loads are of 128 bytes. Sums are f32.
//
// Constants, besides shapes: WORKGROUP (a multiple of 8), VALUES (WORKGROUP / 4), TOKENS, PARTS (of the ranges, that are merged at once:
// PARTS * 4 CHUNKS at most WORKGROUP, or 1).
#include "lib/batch.wgsl"
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> batch: array<u32>;
@group(0) @binding(1) var<storage, read> partial: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(4) var<storage, read> scales: array<f32>;
#endif

const LANES: u32 = 8u;
// Chunks of an invocation that are loaded at once.
const AHEAD: u32 = 4u;
const VECTORS: u32 = CHUNKS * 4u;
const RECORD_VECTORS: u32 = VECTORS + 1u;

// Maximum and sum of each range.
var<workgroup> ranges: array<vec2<f32>, SPLITS>;
var<workgroup> factors: array<f32, SPLITS>;
// [PARTS, VECTORS]; when merged, the first part is their sum.
var<workgroup> latents: array<vec4<f32>, PARTS * VECTORS>;
// [VALUES, LANES]
var<workgroup> lane_sums: array<f32, VALUES * LANES>;

struct RowWords {
  words: array<vec4<u32>, AHEAD * VECTORS_PER_CHUNK>,
  scales: vec4<f32>,
}

// Chunks first + 8 i of a row; those past the last repeat it, and count as zero.
fn load_row(row: u32, first: u32) -> RowWords {
  var loaded: RowWords;
  for (var i = 0u; i < AHEAD; i++) {
    let chunk = first + i * LANES;
    let known = min(chunk, CHUNKS - 1u);
    for (var v = 0u; v < VECTORS_PER_CHUNK; v++) {
      loaded.words[i * VECTORS_PER_CHUNK + v] = weights[(row * CHUNKS + known) * VECTORS_PER_CHUNK + v];
    }
    var scale = select(0.0, WEIGHT_FACTOR, chunk < CHUNKS);
#if WEIGHT_FORMAT == fp8
    scale *= scales[row / 128u * SCALE_COLUMNS + known / 8u];
#endif
    loaded.scales[i] = scale;
  }
  return loaded;
}

fn row_sum(loaded: RowWords, first: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < AHEAD; i++) {
    var words: array<vec4<u32>, VECTORS_PER_CHUNK>;
    for (var v = 0u; v < VECTORS_PER_CHUNK; v++) {
      words[v] = loaded.words[i * VECTORS_PER_CHUNK + v];
    }
    let w = decode_chunk(words);
    let at = min(first + i * LANES, CHUNKS - 1u) * 4u;
    let products = dot(w[0], latents[at]) + dot(w[1], latents[at + 1u]) + dot(w[2], latents[at + 2u]) + dot(w[3], latents[at + 3u]);
    sum += products * loaded.scales[i];
  }
  return sum;
}

fn range_vector(record: u32, split: u32, vector: u32) -> vec4<f32> {
  let factor = factors[split];
  // The latents of an empty range were not written.
  return select(vec4<f32>(0.0), partial[record + split * HEADS * RECORD_VECTORS + vector] * factor, factor > 0.0);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let first = group.z * TOKENS;
  let count = token_count();
  if (first >= count) {
    return;
  }
  let head = group.y;
  let lane = local % LANES;
  let first_value = group.x * VALUES;
  // Values past the last repeat it, and are not written.
  let value = first_value + local / LANES * 2u;
  let row0 = head * (NOPE + VALUE) + NOPE + min(value, VALUE - 1u);
  let row1 = head * (NOPE + VALUE) + NOPE + min(value + 1u, VALUE - 1u);
  let words0 = load_row(row0, lane);
  let words1 = load_row(row1, lane);
  let end = min(first + TOKENS, count);
  for (var token = first; token < end; token++) {
    let record = (token * SPLITS * HEADS + head) * RECORD_VECTORS;
    for (var s = local; s < SPLITS; s += WORKGROUP) {
      ranges[s] = partial[record + s * HEADS * RECORD_VECTORS + VECTORS].xy;
    }
    workgroupBarrier();
    var largest = -3e38;
    var used = 0u;
    for (var s = 0u; s < SPLITS; s++) {
      largest = max(largest, ranges[s].x);
      used = select(used, s + 1u, ranges[s].y > 0.0);
    }
    for (var s = local; s < SPLITS; s += WORKGROUP) {
      factors[s] = select(0.0, exp(ranges[s].x - largest), ranges[s].y > 0.0);
    }
    workgroupBarrier();
    var total = 0.0;
    for (var s = 0u; s < used; s++) {
      total += ranges[s].y * factors[s];
    }
    let share = 1.0 / total;
    // Ranges part, part + PARTS, ...; four at once.
    for (var i = local; i < PARTS * VECTORS; i += WORKGROUP) {
      let vector = i % VECTORS;
      var sum = vec4<f32>(0.0);
      var s = i / VECTORS;
      for (; s + 3u * PARTS < used; s += 4u * PARTS) {
        let a = range_vector(record, s, vector);
        let b = range_vector(record, s + PARTS, vector);
        let c = range_vector(record, s + 2u * PARTS, vector);
        let d = range_vector(record, s + 3u * PARTS, vector);
        sum += (a + b) + (c + d);
      }
      for (; s < used; s += PARTS) {
        sum += range_vector(record, s, vector);
      }
      latents[i] = sum * share;
    }
    workgroupBarrier();
#if MERGED_IN_PARTS
    if (local < VECTORS) {
      var sum = latents[local];
      for (var part = 1u; part < PARTS; part++) {
        sum += latents[part * VECTORS + local];
      }
      latents[local] = sum;
    }
    workgroupBarrier();
#endif
    var sum0 = row_sum(words0, lane);
    var sum1 = row_sum(words1, lane);
    for (var chunk = lane + AHEAD * LANES; chunk < CHUNKS; chunk += AHEAD * LANES) {
      sum0 += row_sum(load_row(row0, chunk), chunk);
      sum1 += row_sum(load_row(row1, chunk), chunk);
    }
    lane_sums[local / LANES * 2u * LANES + lane] = sum0;
    lane_sums[(local / LANES * 2u + 1u) * LANES + lane] = sum1;
    workgroupBarrier();
    if (local < VALUES && first_value + local < VALUE) {
      var sum = 0.0;
      for (var n = 0u; n < LANES; n++) {
        sum += lane_sums[local * LANES + n];
      }
      out[token * OUT_STRIDE + head * VALUE + first_value + local] = sum;
    }
    // The next token writes `ranges`, which are read no more, and its barriers come before what is still read is written.
  }
}
