// What a row of the paged latent cache holds, as f32: columns 0 .. LATENT the latent, then ROPE the key part, then zeros. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> cache: array<CacheUnit>;
//
// Constants, besides those of lib/kv_cache.wgsl and lib/fp8.wgsl: CACHE_WHOLE (4 divides LATENT and ROPE).
#include "lib/kv_cache.wgsl"

#if CACHE_FORMAT == f32
alias CacheUnit = vec4<f32>;

// As `cached`, where the latent alone is wanted: columns that are not the latent's are any number.
fn cached_latents(row: u32, vector: u32) -> vec4<f32> {
  return cache[row + vector];
}

// Columns 4 vector .. 4 vector + 4 of the row that starts at unit `row`.
fn cached(row: u32, vector: u32) -> vec4<f32> {
  return cache[row + vector];
}
#endif
#if CACHE_FORMAT == f16
alias CacheUnit = vec2<u32>;

fn cached_latents(row: u32, vector: u32) -> vec4<f32> {
  return cached(row, vector);
}

fn cached(row: u32, vector: u32) -> vec4<f32> {
  let words = cache[row + vector];
  return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
}
#endif
#if CACHE_FORMAT == fp8
#include "lib/fp8.wgsl"

alias CacheUnit = u32;

fn cached_latents(row: u32, vector: u32) -> vec4<f32> {
  let scale = bitcast<f32>(cache[row + CODE_WORDS + vector / WORDS_PER_SCALE]);
  return fp8_decode4(cache[row + vector]) * (scale * FP8_FACTOR);
}

// Two columns of the key part.
fn cached_keys(row: u32, pair: u32) -> vec2<f32> {
  let word = cache[row + CODE_WORDS + SCALE_WORDS + pair];
  return vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
}

#if CACHE_WHOLE
fn cached(row: u32, vector: u32) -> vec4<f32> {
  if (vector < CODE_WORDS) {
    return cached_latents(row, vector);
  }
  let pair = (vector - CODE_WORDS) * 2u;
  return vec4<f32>(cached_keys(row, pair), cached_keys(row, pair + 1u));
}
#else
fn cached(row: u32, vector: u32) -> vec4<f32> {
  // Beyond the last latent of a word lie codes of zero.
  var four = vec4<f32>(0.0);
  if (vector < CODE_WORDS) {
    four = cached_latents(row, vector);
  }
  for (var i = 0u; i < 4u; i++) {
    let column = vector * 4u + i;
    if (column >= LATENT && column < LATENT + ROPE) {
      four[i] = cached_keys(row, (column - LATENT) / 2u)[(column - LATENT) % 2u];
    }
  }
  return four;
}
#endif
#endif
