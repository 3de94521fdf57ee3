// Four columns of a row of the latent cache, as CACHE_FORMAT = "f32" | "f16" has them.
#if CACHE_FORMAT == f16
alias Cached = vec2<u32>;

fn unpacked(words: Cached) -> vec4<f32> {
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}

// `nothing` is zero, but no compiler knows: some take unpacking for the inverse of packing and round nothing.
fn packed(values: vec4<f32>, nothing: u32) -> Cached {
  let kept = clamp(values, vec4<f32>(-65504.0), vec4<f32>(65504.0));
  return vec2<u32>(pack2x16float(kept.xy), pack2x16float(kept.zw)) | vec2<u32>(nothing);
}
#else
alias Cached = vec4<f32>;

fn unpacked(values: Cached) -> vec4<f32> {
  return values;
}

fn packed(values: vec4<f32>, nothing: u32) -> Cached {
  return values;
}
#endif
