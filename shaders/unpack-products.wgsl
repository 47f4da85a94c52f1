// Two words of f16 or bf16 as four f32, for processors, which shift slowly (pack-products.wgsl says more): to the left by products,
// to the right by a conversion. No f32 is a denormal or a NaN on the way.
override FORMAT: u32; // 0: f16, 1: bf16

// The f32 of 15 bits of an f16, the sign apart.
fn from_f16(size: i32) -> u32 {
  let large = size * 0x2000 + select(0x38000000, 0x70000000, size >= 0x7c00);
  let tiny = bitcast<i32>(f32(size) * 0x1p-24f);
  return u32(select(large, tiny, size < 0x400));
}

fn pair(word: u32) -> vec2u {
  if (FORMAT == 1u) { return vec2u(word * 0x10000u, word & 0xffff0000u); }
  let low = from_f16(i32(word & 0x7fffu));
  let high = from_f16(i32(upper(word & 0x7fff0000u)));
  return vec2u(low | ((word & 0x8000u) * 0x10000u), high | (word & 0x80000000u));
}

fn widened(pairs: vec2u) -> vec4u {
  return vec4u(pair(pairs.x), pair(pairs.y));
}
