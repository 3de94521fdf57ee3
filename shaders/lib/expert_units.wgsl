// Units (lib/unit.wgsl) of a page (lib/expert_pages.wgsl), several at a time: one choice of the page for all of them, so that nothing stands between the loads.
// Constants: LOADS, units loaded together.
#include "lib/expert_pages.wgsl"

fn page_units(page: u32, at: array<u32, LOADS>) -> array<Unit, LOADS> {
  var words: array<Unit, LOADS>;
#if PAGE1
  if (page == 1u) {
#unroll i < LOADS
      words[i] = weights1[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE2
  if (page == 2u) {
#unroll i < LOADS
      words[i] = weights2[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE3
  if (page == 3u) {
#unroll i < LOADS
      words[i] = weights3[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE4
  if (page == 4u) {
#unroll i < LOADS
      words[i] = weights4[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE5
  if (page == 5u) {
#unroll i < LOADS
      words[i] = weights5[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE6
  if (page == 6u) {
#unroll i < LOADS
      words[i] = weights6[at[i]];
#endunroll
    return words;
  }
#endif
#if PAGE7
  if (page == 7u) {
#unroll i < LOADS
      words[i] = weights7[at[i]];
#endunroll
    return words;
  }
#endif
#unroll i < LOADS
    words[i] = weights0[at[i]];
#endunroll
  return words;
}
