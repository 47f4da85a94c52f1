// What the forms of the Hadamard transform share: its numbers, its factor, and the signs that make it a rotation.
// Every form adds and subtracts at distances BLOCK / 2, …, 2, 1 in this order and multiplies last, so that all give the same
// bits (a product before a sum might be fused with it).
override BLOCK: u32;
override SIGNS: u32; // 0: none, 1: before (rotates), 2: after (undoes it)
override DIM: u32; // values to a vector, a multiple of BLOCK; 0: BLOCK. A value's channel is its index modulo DIM

// 1 / sqrt(BLOCK), to the nearest f32, whatever an adapter makes of inverseSqrt.
override PLACES = firstTrailingBit(BLOCK);
override FACTOR = select(1f, 0x1.6a09e6p-1f, PLACES % 2u == 1u) / f32(1u << (PLACES / 2u));

// The channel of a block's value; `first` is that of the block, which lies within one vector.
fn channel_of(first: u32, at: u32) -> u32 {
  return first % select(DIM, BLOCK, DIM == 0u) + at;
}

// The signs of a quad of a block, at the end where they are given; else ones.
fn quad_signs(end: u32, first: u32, quad: u32) -> vec4f {
  if (SIGNS != end) { return vec4f(1); }
  return channel_signs(vec4u(channel_of(first, quad * 4u)) + vec4u(0, 1, 2, 3));
}

fn sign_at(end: u32, value: u32) -> f32 {
  if (SIGNS != end) { return 1f; }
  return channel_sign(channel_of(value, 0u));
}
