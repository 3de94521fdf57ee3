// f32 bits as u32 keys that sort like the numbers. NaN counts as minus infinity, -0 as 0. Only bits are looked at, since WGSL lets an implementation
// assume that floats are finite.

const KEY_MINUS_INFINITY: u32 = 0x007fffffu;

fn order_key(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) {
    return KEY_MINUS_INFINITY;
  }
  return select(magnitude | 0x80000000u, ~bits, bits > 0x80000000u);
}

// The number again, within +-2^122, so that differences stay finite.
fn key_value(key: u32) -> f32 {
  let bits = select(~key, key ^ 0x80000000u, key >= 0x80000000u);
  return bitcast<f32>((bits & 0x80000000u) | min(bits & 0x7fffffffu, 0x7c800000u));
}
