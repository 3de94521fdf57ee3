// Weights that the next dispatch reads, read by workgroups that this one has room for besides its own, so that they are in the device's caches when it begins. The first rows of each matrix of a page of experts.
//
// Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read> ahead: array<u32>;   SPANS spans of which a word of every 32 bytes is read, SPAN_PIECES of them; PERIOD words from one span to the next
//
// Constants: SPANS, SPAN_PIECES, PERIOD; READ_LOADS, words that an invocation has under way at once. What is read is for whoever calls to use, in a way that no compiler can do without.
const PIECE_WORDS: u32 = 8u;
const PIECES: u32 = SPANS * SPAN_PIECES;

// All words, by `or`, that number `reader` of so many readers has.
fn read_ahead(reader: u32, readers: u32) -> u32 {
  var all = 0u;
  for (var first = reader; first < PIECES; first += readers * READ_LOADS) {
    // All of them are under way before the first is looked at.
#unroll i < READ_LOADS
    let piece = min(first + i * readers, PIECES - 1u);
    all |= ahead[piece / SPAN_PIECES * PERIOD + piece % SPAN_PIECES * PIECE_WORDS];
#endunroll
  }
  return all;
}
