// Reads a stream of rANS (core/codec/rans.ts) without a branch: what runs lanes side by side in one register does best so.
// Whatever the stream holds, no word at or above `words_end` is read.
var<private> state: u32;
var<private> half: u32; // the next unit, counted in halves of words
var<private> words_end: u32;

fn open_stream(first: u32, end: u32) {
  let head = container[min(first, end - 1u)];
  state = head & 0x7fffffffu;
  half = 2u * first + 2u + (head >> 31u);
  words_end = end;
}

// Brings the state on by what the table has for its lowest 11 bits.
fn take(entry: u32) {
  let short = ((entry >> 8u) & 0xfffu) * (state >> 11u) + (entry >> 20u);
  let unit = (container[min(half >> 1u, words_end - 1u)] >> (16u * (half & 1u))) & 0xffffu;
  let wants = short < 0x8000u;
  state = select(short, (short << 16u) | unit, wants);
  half += select(0u, 1u, wants);
}
