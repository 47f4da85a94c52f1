// Reads a stream of rANS (core/codec/rans.ts), touching memory only when a unit is wanted: for GPUs.
// Whatever the stream holds, no word at or above `words_end` is read.
var<private> state: u32;
var<private> half: u32; // the next unit, counted in halves of words
var<private> word: u32; // of which the upper half may be the next unit
var<private> words_end: u32;

fn open_stream(first: u32, end: u32) {
  let head = container[min(first, end - 1u)];
  state = head & 0x7fffffffu;
  half = 2u * first + 2u + (head >> 31u);
  word = container[min(first + 1u, end - 1u)];
  words_end = end;
}

// Brings the state on by what the table has for its lowest 11 bits.
fn take(entry: u32) {
  state = ((entry >> 8u) & 0xfffu) * (state >> 11u) + (entry >> 20u);
  if (state < 0x8000u) {
    if ((half & 1u) == 0u) { word = container[min(half >> 1u, words_end - 1u)]; }
    state = (state << 16u) | ((word >> (16u * (half & 1u))) & 0xffffu);
    half++;
  }
}
