// The upper 16 bits of a word without a shift, for processors: SwiftShader shifts lane by lane. What is converted has 16 bits
// and is exact; the sum leaves them at the end of its mantissa.
fn upper(word: u32) -> u32 {
  return bitcast<u32>(f32(i32(word & 0xffff0000u)) * 0x1p-16f + 0x1.8p23f) & 0xffffu;
}
