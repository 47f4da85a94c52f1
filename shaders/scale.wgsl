// What the encoders find in a vector before they code it; core/codec/scale.ts says what it means. Values come as bits of
// f32. Every adapter finds the same: it is in integers, powers of two and single products, because a compiler may take
// products in a row in another order (then they are rounded otherwise, or overflow), and may fuse one with a sum.
const ZERO_CODE = 0u;
const NOT_FINITE_CODE = 255u;
const CODE_MAX = 254;
const CODE_ONE = 128;
const EXPONENT_MIN = -89;
const EXPONENT_MAX = 128;
const INVERSES = array<f32, 8>(1.0, 0.91700405, 0.8408964, 0.7711054, 0.70710677, 0.6484198, 0.59460354, 0.5452539);

/** Every size is below 2 to this; `largest` is the bits of the largest one. */
fn exponent_of(largest: u32) -> i32 {
  return i32(largest >> 23u) - 126;
}

fn power_of_2(exponent: i32) -> f32 {
  return bitcast<f32>(u32(exponent + 127) << 23u);
}

/** Half of this, to the nearest integer, ties up: a product is only cut off, so that it cannot be fused with a sum. */
fn rounded(twice: f32) -> i32 {
  return (i32(floor(twice)) + 1) >> 1u;
}

/** A value times 2^-exponent, which brings it below 1; what would be a denormal is 0. */
fn below_one(bits: u32, exponent: i32) -> f32 {
  let field = i32((bits >> 23u) & 0xffu) - exponent;
  return bitcast<f32>(select((bits & 0x807fffffu) | (u32(field) << 23u), 0u, field < 1));
}

/** The square of a value times 2^(11 - exponent), rounded before. */
fn square_on_grid(bits: u32, exponent: i32) -> u32 {
  let whole = rounded(below_one(bits, exponent) * 4096.0);
  return u32(whole * whole);
}

fn code_of_rms(squares: u32, exponent: i32, dim: u32) -> i32 {
  let factor = min(dim & (~dim + 1u), 128u);
  let of128 = squares * (128u / factor) / (dim / factor);
  let leading = countLeadingZeros(of128);
  let mantissa = select(of128 << ((leading - 7u) & 31u), of128 >> ((7u - leading) & 31u), leading <= 7u);
  let reached = vec4u(mantissa) >= vec4u(18295683, 21757357, 25874004, 30769549);
  let fourths = dot(select(vec4i(0), vec4i(1), reached), vec4i(1));
  return CODE_ONE + 4 * i32(31u - leading) + fourths - 28 + 8 * (exponent - 11);
}

fn code_of_largest(largest: u32, exponent: i32) -> i32 {
  var code = CODE_ONE + 8 * (exponent - 1);
  for (var eighth = 0u; eighth < 8u; eighth++) { code += select(0, 1, (largest & 0x7fffffu) > mantissa_of(eighth)); }
  return code;
}

/** What brings values below one into units of 2^-places of a scale, also of one that is not stored. */
fn per_unit(exponent: i32, code: i32, places: i32) -> f32 {
  return INVERSES[u32(code) & 7u] * power_of_2(exponent - ((code - CODE_ONE) >> 3u) + places);
}
