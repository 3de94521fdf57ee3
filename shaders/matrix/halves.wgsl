// Rows of x as lib/matrix_tile.wgsl multiplies them, for whatever nobody wrote so to begin with (lib/write_halves.wgsl).
//
// x       [rows, X_STRIDE] f32, columns X_OFFSET .. X_OFFSET + 8 OCTETS
// SPLIT_ROWS rows, HALVES_ROWS or fewer.
// halves  as lib/matrix_halves.wgsl lays them out
// tiles, rows   with TILED: as group_tokens.wgsl writes them; row r of the halves is row r % 16 of tile r / 16, made of row rows[..] / TILE_SLOTS of x
// Dispatch: (rows up to 65535, more of them) workgroups of WORKGROUP. Constants: also those of lib/write_halves.wgsl.
#include "lib/write_halves.wgsl"

@group(0) @binding(0) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> halves: array<vec4<u32>>;

#if TILED
@group(0) @binding(2) var<storage, read> tiles: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> rows: array<u32>;
#endif

var<workgroup> largest: atomic<u32>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let row = group.x + group.y * 65535u;
  if (row >= SPLIT_ROWS) {
    return;
  }
#if TILED
  if (row / 16u >= tiles[0].x) {
    return;
  }
  let tile = tiles[1u + row / 16u];
  if (row % 16u >= tile.z) {
    return;
  }
  let source = rows[tile.y + row % 16u] / TILE_SLOTS;
#else
  let source = row;
#endif
  let base = (source * X_STRIDE + X_OFFSET) / 4u;
  var most = 0.0;
  for (var octet = local; octet < OCTETS; octet += WORKGROUP) {
    most = max(most, max(largest_of(x[base + 2u * octet]), largest_of(x[base + 2u * octet + 1u])));
  }
  // Numbers that are not negative sort as their bits do.
  atomicMax(&largest, bitcast<u32>(most));
  workgroupBarrier();
  let exponent = halves_exponent(bitcast<f32>(atomicLoad(&largest)));
  let power = power_of_two(exponent);
  for (var octet = local; octet < HALVES_OCTETS; octet += WORKGROUP) {
    var a = vec4<f32>(0.0);
    var b = vec4<f32>(0.0);
    if (octet < OCTETS) {
      a = x[base + 2u * octet] * power;
      b = x[base + 2u * octet + 1u] * power;
    }
    write_octet(row, octet, a, b);
  }
  if (local == 0u) {
    write_power(row, exponent, 0.0);
  }
}
