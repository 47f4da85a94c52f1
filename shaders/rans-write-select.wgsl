// Writes a stream of rANS (core/codec/rans.ts) backwards from the end of its slot, without a branch: the word below is
// stored every time, and kept when it is full.
var<private> state: u32;
var<private> below: u32; // the first word of what is written for good
var<private> upper: u32; // a unit that waits for the lower half of its word
var<private> waits: bool;
var<private> lowest: u32; // nothing is written below this but the last two words, whatever the table says

fn open_slot(first: u32, end: u32) {
  state = 0x8000u;
  below = end;
  lowest = first + 2u;
  upper = 0u;
  waits = false;
}

fn emit(frequency: u32) {
  let is_large = state >= (frequency << 20u);
  let unit = state & 0xffffu;
  work[below - 1u] = upper | unit;
  below = max(below - select(0u, 1u, is_large && waits), lowest);
  upper = select(upper, select(unit << 16u, 0u, waits), is_large);
  waits = waits != is_large;
  state = select(state, state >> 16u, is_large);
}
