// Four f32 as four f16 or bf16, for processors: no shift and no branch. SwiftShader shifts lane by lane and computes both sides
// of an `if`; a sum, a product or a conversion costs it a tenth of a shift. All conversions are exact. One sum of f32 rounds, to
// nearest, ties to even, as every processor adds; the tests see the ties and ends of every exponent.
override FORMAT: u32; // 0: f16, 1: bf16

const NAN_ABOVE = 0x7f800000;

// A multiple of 2^13, without those 13 bits.
fn beyond_13(bits: i32) -> i32 {
  return bitcast<i32>(f32(bits) * 0x1p-13f + 0x1p23f) - 0x4b000000;
}

// The f16 without its sign. Adding 2^13 times the power of two in a number leaves its upper 11 bits, rounded, at the end of the
// mantissa. Below 2^-14 that power stays: what is left are the bits of a denormal. From 2^16 on it stays too: what comes out is
// above infinity, and cut to it.
fn to_f16(bits: u32) -> u32 {
  let size = i32(bits & 0x7fffffffu);
  let power = clamp(size & 0x7f800000, 0x38800000, 0x47800000);
  let above = power + 0x06800000;
  let mantissa = bitcast<i32>(bitcast<f32>(size) + bitcast<f32>(above)) - above;
  let number = min(beyond_13(power - 0x38800000) + mantissa, 0x7c00);
  let nan = beyond_13(size & 0x007fe000) | 0x7e00;
  return u32(select(number, nan, size > NAN_ABOVE));
}

// The bf16 nearest to a word, in its upper half; what is in the lower is of no use.
fn to_bf16(bits: u32) -> u32 {
  let near = bits + select(0x7fffu, 0x8000u, (bits & 0x10000u) != 0u);
  return select(near, bits | 0x400000u, i32(bits & 0x7fffffffu) > NAN_ABOVE);
}

fn pair(low: u32, high: u32) -> u32 {
  if (FORMAT == 1u) { return upper(to_bf16(low)) | (to_bf16(high) & 0xffff0000u); }
  let signs = upper(low & 0x80000000u) | (high & 0x80000000u);
  return signs | to_f16(low) | (to_f16(high) * 0x10000u);
}

fn narrowed(bits: vec4u) -> vec2u {
  return vec2u(pair(bits.x, bits.y), pair(bits.z, bits.w));
}
