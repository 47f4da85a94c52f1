// What the forms of the trellis encoder share: the scale, the values in units of the search, and how bits are put together.
// core/codec/trellis.ts says what they mean. A form has way_to(t, class), the member of a class that its cheapest way comes
// from, and took_upper(t, pair), which class of two that became one.

/** Below 1: nothing is left of the vector. */
fn code_for(largest: u32, exponent: i32, squares: u32) -> i32 {
  let rms = code_of_rms(squares, exponent, DIM);
  let held = code_of_largest(largest, exponent) - 16;
  return select(rms, held + 2, held > rms);
}

/** `per_half_step` brings values into half steps of 1/256. */
fn search_target(bits: u32, exponent: i32, per_half_step: f32) -> i32 {
  return 8 * rounded(below_one(bits, exponent) * per_half_step);
}

/** How many bits of its state value t does not share with the next. */
fn dropped(t: u32) -> u32 {
  return (((t + 1u) * STRETCH) >> 8u) - ((t * STRETCH) >> 8u);
}

var<private> made: array<u32, RECORD_WORDS>;

fn put(at: u32, bits: u32) {
  let word = at >> 5u;
  let shift = at & 31u;
  made[word] |= bits << shift;
  if (word + 1u < RECORD_WORDS) { made[word + 1u] |= (bits >> 1u) >> (31u - shift); }
}

/** From the last value's state to the first one's; what each does not share with the next is put down. */
fn trace_back(last: u32) {
  var state = last;
  put(8u + (((DIM - 1u) * STRETCH) >> 8u), state);
  for (var left = DIM - 1u; left > 0u; left--) {
    let t = left - 1u;
    let bits = dropped(t);
    var class_from = state & ((1u << (STATE_BITS - bits)) - 1u);
    if (bits > SHIFT_BITS) { class_from = 2u * class_from + took_upper(t, class_from); }
    state = (class_from << SHIFT_BITS) | way_to(t, class_from);
    put(8u + ((t * STRETCH) >> 8u), state & ((1u << bits) - 1u));
  }
}

fn write_made(record: u32) {
  for (var word = 0u; word < RECORD_WORDS; word++) { pages[record + word] = made[word]; }
}
