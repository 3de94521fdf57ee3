// y[t, row] = sum over k of w[row, k] * x[t, k], as matmul.wgsl, for batches: by subgroup matrices a strip of weights at a time (lib/matrix_strip.wgsl, which says how precisely).
//
// weights, scales, batch, y   as in matmul.wgsl; halves: x as matrix/halves.wgsl splits it. Dispatch: [ceil(tokens / (16 TOKEN_FRAGMENTS)), ceil(ROW_COUNT / (16 FRAGMENTS))]
// workgroups of THREADS; rows beyond 65535 workgroups go along z. Workgroups with the same rows come one after another. 16 FRAGMENTS divides 128 and ROW_START is a multiple of 128.
// Constants: those of matmul.wgsl and of lib/matrix_strip.wgsl.
#include "lib/batch.wgsl"
#include "lib/matrix_strip.wgsl"

@group(0) @binding(0) var<storage, read> halves: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> weights: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(3) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(4) var<storage, read> batch: array<u32>;

// Of the workgroup's strip, and how many rows of x count.
var<private> first_row: u32;
var<private> first_token: u32;
var<private> count: u32;

// Rows past the end repeat the last: their sums are not written.
fn weight_row(fragment: u32, n: u32) -> u32 {
  return min(first_row + 16u * fragment + n, ROW_COUNT - 1u);
}

fn weight_vectors(at: array<u32, LOADS>) -> array<Unit, LOADS> {
  var words: array<Unit, LOADS>;
#unroll i < LOADS
  words[i] = weights[at[i]];
#endunroll
  return words;
}

fn first_block() -> u32 {
  return first_token / 16u;
}

#if WEIGHT_FORMAT == fp8
fn block_scale(fragment: u32, block: u32) -> f32 {
  return scales[(ROW_START + min(first_row, ROW_COUNT - 1u)) / 128u * SCALE_COLUMNS + block];
}
#endif

#if EARLY_RESULTS
var<private> early_y: f32;

// Of an invocation that writes one result: what it adds that to.
fn early_result(m: u32, n: u32) {
  early_y = y[min((first_token + m) * Y_STRIDE + ROW_START + first_row + n, arrayLength(&y) - 1u)];
}
#endif

fn write_result(m: u32, n: u32, value: f32) {
  let token = first_token + m;
  let row = first_row + n;
  if (token < count && row < ROW_COUNT) {
    let index = token * Y_STRIDE + ROW_START + row;
#if EARLY_RESULTS
    y[index] = early_y + value;
#else
#if RESIDUAL
    y[index] += value;
#else
    y[index] = value;
#endif
#endif
  }
}

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
#if COUNT_OUTPUTS
  let tokens = output_count();
#else
  let tokens = token_count();
#endif
  count = tokens;
  first_row = (group.z * groups.y + group.y) * (16u * FRAGMENTS);
  first_token = group.x * (16u * TOKEN_FRAGMENTS);
  multiply_strip(local, select(BLOCKS, 0u, group.x * (16u * TOKEN_FRAGMENTS) >= tokens || (group.z * groups.y + group.y) * (16u * FRAGMENTS) >= ROW_COUNT));
}
