// y[row, col] = the value of a stored weight: code times its block's scale for fp8.
//
// weights [rows of this part, 16 CHUNKS] in WEIGHT_FORMAT; scales [ceil(rows / 128), SCALE_COLUMNS] f32, for fp8
// y       [rows of the matrix, COLS] f32, dense
//
// Dispatch: [ceil(CHUNKS / 64), up to 65535] workgroups of 64, a chunk of a row for each invocation; workgroups stride over the rows.
// Rows ROW_START .. ROW_START + ROW_COUNT of the matrix lie in `weights`. Numerics: one rounding, of code times scale.
#include "lib/weights.wgsl"

@group(0) @binding(0) var<storage, read> weights: array<vec4<u32>>;
#if WEIGHT_FORMAT == fp8
@group(0) @binding(1) var<storage, read> scales: array<f32>;
#endif
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  if (id.x >= CHUNKS) {
    return;
  }
  for (var row = id.y; row < ROW_COUNT; row += groups.y) {
    let values = load_chunk(row * CHUNKS + id.x);
    var factor = WEIGHT_FACTOR;
#if WEIGHT_FORMAT == fp8
    factor *= scales[(ROW_START + row) / 128u * SCALE_COLUMNS + id.x / 8u];
#endif
    for (var i = 0u; i < 16u; i++) {
      let column = id.x * 16u + i;
      if (column < COLS) {
        y[(ROW_START + row) * COLS + column] = values[i / 4u][i % 4u] * factor;
      }
    }
  }
}
