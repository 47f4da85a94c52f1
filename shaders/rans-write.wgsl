// Puts a symbol into the state: the half of a writer that has one form. A stream lies at the end of its slot of `work`,
// which begins with the lengths of all streams, in words, filled up to whole units of 16 bytes.

// The quotient of state and frequency is below 2^20. The factor is below 1 by more than three roundings, and a division
// that may be off by 2.5 units, can add up to, and by less than 2^-20: so the quotient is right or one too small.
fn put(entry: u32) {
  let frequency = max(entry & 0xffffu, 1u); // 0 is nobody's, if the table is that of the values
  emit(frequency);
  var quotient = u32(i32(f32(i32(state)) * (0.99999952 / f32(i32(frequency)))));
  var rest = state - quotient * frequency;
  let is_small = rest >= frequency;
  quotient += select(0u, 1u, is_small);
  rest -= select(0u, frequency, is_small);
  state = (quotient << 11u) + rest + (entry >> 16u);
}

// Gives the first word of the stream.
fn close_slot() -> u32 {
  if (waits) {
    below--;
    work[below] = upper;
  }
  below--;
  work[below] = state | select(0u, 0x80000000u, waits);
  return below;
}

fn slots_at(streams: u32) -> u32 {
  return (streams + 3u) / 4u * 4u;
}
