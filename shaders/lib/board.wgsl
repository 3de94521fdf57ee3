// Words and numbers that workgroups of a dispatch leave for the one of them that is done last. Needs in the including shader:
//
//   @group(0) @binding(n) var<storage, read_write> board: array<atomic<u32>>;   zeros before, and zeros again after
//
// Nothing in WGSL orders what one workgroup writes to storage before what another reads of it, so they are atomic words themselves: `~bits`, with 0 for one that is not there yet. Whoever is counted has put up
// all it has just before, without a condition, so that the last one waits for words under way at most, never for a workgroup that has yet to run; MOST_LOOKS ends even that, with NaN,
// and the board is then no longer zeros. What the last one writes, others must have used, not only read, before they count: nothing else keeps a read before a write.

const MOST_LOOKS: u32 = 65536u;

// Of all words, 0xffffffff alone becomes another: as a number one NaN another.
fn put_up_word(at: u32, word: u32) {
  atomicStore(&board[at], max(~word, 1u));
}

fn put_up(at: u32, value: f32) {
  put_up_word(at, bitcast<u32>(value));
}

// Counts at `at`. @returns whether it is the last of `all`
fn arrives_last(at: u32, all: u32) -> bool {
  if (atomicAdd(&board[at], 1u) < all - 1u) {
    return false;
  }
  atomicStore(&board[at], 0u);
  return true;
}

// The word, which is then taken down. `seen` is what was there a moment ago: several may have been asked for before the first is waited for.
fn taken_word(at: u32, seen: u32) -> u32 {
  var word = seen;
  for (var looks = 0u; word == 0u && looks < MOST_LOOKS; looks++) {
    word = atomicLoad(&board[at]);
  }
  atomicStore(&board[at], 0u);
  return ~word;
}

fn taken(at: u32, seen: u32) -> f32 {
  return bitcast<f32>(taken_word(at, seen));
}

// Of `count` numbers, `stride` apart, in their order; all are taken down. Eight are under way at once.
fn taken_sum(first: u32, stride: u32, count: u32) -> f32 {
  var sum = 0.0;
  for (var start = 0u; start < count; start += 8u) {
    var words: array<u32, 8>;
#unroll i < 8
    words[i] = atomicLoad(&board[first + min(start + i, count - 1u) * stride]);
#endunroll
#unroll i < 8
    if (start + i < count) {
      sum += taken(first + (start + i) * stride, words[i]);
    }
#endunroll
  }
  return sum;
}
