// The symbols of four values side by side, a byte each, first value lowest: of f16 the upper byte, else the exponent.
override FORMAT: u32; // 1: f16, 2: bf16, 3: f32

fn fours_of(bytes: u32) -> u32 {
  return bytes / select(8u, 16u, FORMAT == 3u);
}

fn symbols_of(four: u32) -> u32 {
  if (FORMAT == 3u) {
    let at = 4u * four;
    let e = (vec4u(source[at], source[at + 1u], source[at + 2u], source[at + 3u]) >> vec4u(23)) & vec4u(0xff);
    return e.x | (e.y << 8u) | (e.z << 16u) | (e.w << 24u);
  }
  let low = source[2u * four];
  let high = source[2u * four + 1u];
  if (FORMAT == 1u) {
    return ((low >> 8u) & 0xffu) | ((low >> 16u) & 0xff00u) | ((high << 8u) & 0xff0000u) | (high & 0xff000000u);
  }
  return ((low >> 7u) & 0xffu) | ((low >> 15u) & 0xff00u) | ((high << 9u) & 0xff0000u) | ((high << 1u) & 0xff000000u);
}
