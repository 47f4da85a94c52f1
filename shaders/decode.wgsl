// Records to f32 vectors. f32, f16 and bf16 in integers, where an adapter may take denormals for zero or change a NaN.
override CODEC: u32;
override DIM: u32;
@group(0) @binding(0) var<storage, read> pages: array<u32>;
@group(0) @binding(1) var<storage, read_write> vectors: array<vec4u>;

fn decode_octet(record: u32, octet: u32, scale: f32, vector: u32) {
  let at = vector / 4u + octet * 2u;
  if (CODEC == F32) {
    vectors[at] = four_words(record + octet * 8u);
    vectors[at + 1u] = four_words(record + octet * 8u + 4u);
  } else if (CODEC == F16 || CODEC == BF16) {
    let pairs = four_words(record + octet * 4u);
    vectors[at] = widened(pairs.xy);
    vectors[at + 1u] = widened(pairs.zw);
  } else {
    let values = record_octet(CODEC, DIM, record, octet);
    vectors[at] = bitcast<vec4u>(values.low * scale);
    vectors[at + 1u] = bitcast<vec4u>(values.high * scale);
  }
}

fn four_words(at: u32) -> vec4u {
  return vec4u(pages[at], pages[at + 1u], pages[at + 2u], pages[at + 3u]);
}

fn widened(pairs: vec2u) -> vec4u {
  let bits = vec4u(pairs.x & 0xffffu, pairs.x >> 16u, pairs.y & 0xffffu, pairs.y >> 16u);
  if (CODEC == BF16) { return bits << vec4u(16); }
  return from_f16(bits);
}
