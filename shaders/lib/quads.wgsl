// Weights as blocked products stage them: four columns (a quad) of each of four rows, column by column, since a product's inner loop wants
// the rows of one column side by side. Invocations that have neighbouring quads read neighbouring words.
//
// Needs in the including shader: fn weight_word(page: u32, word: u32) -> u32. Constants: those of lib/chunk.wgsl.
#include "lib/chunk.wgsl"

// Words that a quad takes.
#if WEIGHT_FORMAT == fp8
const QUAD_WORDS: u32 = 1u;
#else
const QUAD_WORDS: u32 = VECTORS_PER_CHUNK;
#endif

// The words of four quads, whose numbers count from the page's start: as stored, for decoding can wait until the block before is
// multiplied.
fn load_quads(page: u32, quads: vec4<u32>) -> array<vec4<u32>, QUAD_WORDS> {
  var words: array<vec4<u32>, QUAD_WORDS>;
  for (var i = 0u; i < QUAD_WORDS; i++) {
    let at = quads * QUAD_WORDS + i;
    words[i] = vec4<u32>(weight_word(page, at.x), weight_word(page, at.y), weight_word(page, at.z), weight_word(page, at.w));
  }
  return words;
}

// A column for each of the quads' four columns, with a row of each; without WEIGHT_FACTOR.
fn decode_quads(words: array<vec4<u32>, QUAD_WORDS>) -> mat4x4<f32> {
#if WEIGHT_FORMAT == fp8
  let a = words[0];
  return transpose(mat4x4<f32>(fp8_decode4(a.x), fp8_decode4(a.y), fp8_decode4(a.z), fp8_decode4(a.w)));
#endif
#if WEIGHT_FORMAT == bf16
  let low = words[0];
  let high = words[1];
  return mat4x4<f32>(
    bitcast<vec4<f32>>(low << vec4<u32>(16u)), bitcast<vec4<f32>>(low & vec4<u32>(0xffff0000u)),
    bitcast<vec4<f32>>(high << vec4<u32>(16u)), bitcast<vec4<f32>>(high & vec4<u32>(0xffff0000u)));
#endif
#if WEIGHT_FORMAT == f16
  let a = words[0];
  let b = words[1];
  return transpose(mat4x4<f32>(
    vec4<f32>(unpack2x16float(a.x), unpack2x16float(b.x)), vec4<f32>(unpack2x16float(a.y), unpack2x16float(b.y)),
    vec4<f32>(unpack2x16float(a.z), unpack2x16float(b.z)), vec4<f32>(unpack2x16float(a.w), unpack2x16float(b.w))));
#endif
#if WEIGHT_FORMAT == f32
  return mat4x4<f32>(
    bitcast<vec4<f32>>(words[0]), bitcast<vec4<f32>>(words[1]), bitcast<vec4<f32>>(words[2]), bitcast<vec4<f32>>(words[3]));
#endif
}
