// Units of 16 bytes of a page's rows (lib/expert_pages.wgsl, lib/row_teams.wgsl), several at a time: one choice of the page for all of them, so that nothing stands
// between the loads. Constants: LOADS, units loaded together.
#include "lib/expert_pages.wgsl"
#include "lib/row_teams.wgsl"

fn page_units(page: u32, at: array<u32, LOADS>) -> array<vec4<u32>, LOADS> {
  var words: array<vec4<u32>, LOADS>;
#if PAGE1
  if (page == 1u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights1[at[i]];
    }
    return words;
  }
#endif
#if PAGE2
  if (page == 2u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights2[at[i]];
    }
    return words;
  }
#endif
#if PAGE3
  if (page == 3u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights3[at[i]];
    }
    return words;
  }
#endif
#if PAGE4
  if (page == 4u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights4[at[i]];
    }
    return words;
  }
#endif
#if PAGE5
  if (page == 5u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights5[at[i]];
    }
    return words;
  }
#endif
#if PAGE6
  if (page == 6u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights6[at[i]];
    }
    return words;
  }
#endif
#if PAGE7
  if (page == 7u) {
    for (var i = 0u; i < LOADS; i++) {
      words[i] = weights7[at[i]];
    }
    return words;
  }
#endif
  for (var i = 0u; i < LOADS; i++) {
    words[i] = weights0[at[i]];
  }
  return words;
}
