// Writes a stream of rANS (core/codec/rans.ts) backwards from the end of its slot, storing only words that are full: for GPUs.
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
  if (state < (frequency << 20u)) { return; }
  let unit = state & 0xffffu;
  if (waits) {
    below = max(below - 1u, lowest);
    work[below] = upper | unit;
  } else {
    upper = unit << 16u;
  }
  waits = !waits;
  state >>= 16u;
}
