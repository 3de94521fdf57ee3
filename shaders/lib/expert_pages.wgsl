// The weights of a group of experts (packages/kernels/src/experts.ts), which lie in up to 8 pages bound at once.
//
// Constants: those of lib/chunk.wgsl and lib/unit.wgsl; EXPERTS_PER_PAGE; SET_FIRST and SET_EXPERTS, the first of the experts bound and how many they are; PAGE1 ..
// PAGE7, for the pages bound besides the first. A group with more pages takes a dispatch for each set of them, in which workgroups leave the experts of
// other sets alone.
#include "lib/chunk.wgsl"
#include "lib/unit.wgsl"

@group(0) @binding(8) var<storage, read> weights0: array<Unit>;
#if PAGE1
@group(0) @binding(9) var<storage, read> weights1: array<Unit>;
#endif
#if PAGE2
@group(0) @binding(10) var<storage, read> weights2: array<Unit>;
#endif
#if PAGE3
@group(0) @binding(11) var<storage, read> weights3: array<Unit>;
#endif
#if PAGE4
@group(0) @binding(12) var<storage, read> weights4: array<Unit>;
#endif
#if PAGE5
@group(0) @binding(13) var<storage, read> weights5: array<Unit>;
#endif
#if PAGE6
@group(0) @binding(14) var<storage, read> weights6: array<Unit>;
#endif
#if PAGE7
@group(0) @binding(15) var<storage, read> weights7: array<Unit>;
#endif

// Whether the expert is among those bound.
fn expert_bound(expert: u32) -> bool {
  return expert - SET_FIRST < SET_EXPERTS;
}

fn expert_page(expert: u32) -> u32 {
  return (expert - SET_FIRST) / EXPERTS_PER_PAGE;
}

// The expert's place in its page.
fn expert_in_page(expert: u32) -> u32 {
  return (expert - SET_FIRST) % EXPERTS_PER_PAGE;
}

#if !UNIT_WORDS
fn page_vector(page: u32, index: u32) -> vec4<u32> {
#if PAGE1
  if (page == 1u) {
    return weights1[index];
  }
#endif
#if PAGE2
  if (page == 2u) {
    return weights2[index];
  }
#endif
#if PAGE3
  if (page == 3u) {
    return weights3[index];
  }
#endif
#if PAGE4
  if (page == 4u) {
    return weights4[index];
  }
#endif
#if PAGE5
  if (page == 5u) {
    return weights5[index];
  }
#endif
#if PAGE6
  if (page == 6u) {
    return weights6[index];
  }
#endif
#if PAGE7
  if (page == 7u) {
    return weights7[index];
  }
#endif
  return weights0[index];
}

// Word number `word` of a page: not the whole vector, for invocations whose neighbours have the other words.
fn page_word(page: u32, word: u32) -> u32 {
#if PAGE1
  if (page == 1u) {
    return weights1[word / 4u][word % 4u];
  }
#endif
#if PAGE2
  if (page == 2u) {
    return weights2[word / 4u][word % 4u];
  }
#endif
#if PAGE3
  if (page == 3u) {
    return weights3[word / 4u][word % 4u];
  }
#endif
#if PAGE4
  if (page == 4u) {
    return weights4[word / 4u][word % 4u];
  }
#endif
#if PAGE5
  if (page == 5u) {
    return weights5[word / 4u][word % 4u];
  }
#endif
#if PAGE6
  if (page == 6u) {
    return weights6[word / 4u][word % 4u];
  }
#endif
#if PAGE7
  if (page == 7u) {
    return weights7[word / 4u][word % 4u];
  }
#endif
  return weights0[word / 4u][word % 4u];
}

// Chunk number `chunk` of a page, without WEIGHT_FACTOR.
fn page_chunk(page: u32, chunk: u32) -> array<vec4<f32>, 4> {
  var words: array<vec4<u32>, VECTORS_PER_CHUNK>;
  for (var i = 0u; i < VECTORS_PER_CHUNK; i++) {
    words[i] = page_vector(page, chunk * VECTORS_PER_CHUNK + i);
  }
  return decode_chunk(words);
}
#endif
