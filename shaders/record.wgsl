// Reads records: eight values, unscaled, and their scale, from `pages: array<u32>`, which the kernel declares that includes
// this. `codec` (F32, F16, …) and `dim` are constants of the pipeline wherever this is called, so that what is not asked
// for is gone once it is made. Value times scale, rounded, is what the codec's CPU reference gives; of f16 an adapter may
// take denormals for zero. `base` is the record's first word. No word outside the record is read.
struct Octet { low: vec4f, high: vec4f }

fn record_octet(codec: u32, dim: u32, base: u32, octet: u32) -> Octet {
  if (codec == F32) { return octet_of_f32(base + octet * 8u); }
  if (codec == F16) { return octet_of_f16(base + octet * 4u); }
  if (codec == BF16) { return octet_of_bf16(base + octet * 4u); }
  if (codec == Q8R) { return octet_of_q8r(base + octet * 2u, octet == 0u); }
  if (codec == TQ4) { return octet_of_tq4(pages[base + 1u + octet]); }
  return octet_of_trellis(codec, dim, base, octet);
}

fn record_scale(codec: u32, base: u32) -> f32 {
  if (codec <= BF16) { return 1.0; }
  if (codec == TQ4) { return bitcast<f32>(pages[base]) * 0x1p-22; }
  // a level of q8r is in 2^-25 of the scale, one of a trellis in 2^-8
  return scale_of(pages[base] & 0xffu, select(8u, 25u, codec == Q8R));
}

/** 2^((code - 128) / 8 - places): from its bits, as products in a row may be rounded in another order. 0 of 0, NaN of 255. */
fn scale_of(code: u32, places: u32) -> f32 {
  let exponent = 111u - places + (code >> 3u);
  let bits = select((exponent << 23u) | mantissa_of(code), 0u, code == 0u);
  return bitcast<f32>(select(bits, 0x7fc00000u, code == 255u));
}

/** Of 2^(code / 8), without its leading one. */
fn mantissa_of(code: u32) -> u32 {
  let quarters = select(
    select(vec2u(0, 0xb95c2), vec2u(0x1837f0, 0x25fed7), (code & 2u) != 0u),
    select(vec2u(0x3504f3, 0x45672a), vec2u(0x5744fd, 0x6ac0c7), (code & 2u) != 0u),
    (code & 4u) != 0u,
  );
  return select(quarters.x, quarters.y, (code & 1u) != 0u);
}

fn octet_of_f32(at: u32) -> Octet {
  let low = vec4u(pages[at], pages[at + 1u], pages[at + 2u], pages[at + 3u]);
  let high = vec4u(pages[at + 4u], pages[at + 5u], pages[at + 6u], pages[at + 7u]);
  return Octet(bitcast<vec4f>(low), bitcast<vec4f>(high));
}

fn octet_of_f16(at: u32) -> Octet {
  let low = vec4f(unpack2x16float(pages[at]), unpack2x16float(pages[at + 1u]));
  let high = vec4f(unpack2x16float(pages[at + 2u]), unpack2x16float(pages[at + 3u]));
  return Octet(low, high);
}

fn octet_of_bf16(at: u32) -> Octet {
  let pairs = vec4u(pages[at], pages[at + 1u], pages[at + 2u], pages[at + 3u]);
  let even = pairs << vec4u(16);
  let odd = pairs & vec4u(0xffff0000);
  return Octet(bitcast<vec4f>(vec4u(even.x, odd.x, even.y, odd.y)), bitcast<vec4f>(vec4u(even.z, odd.z, even.w, odd.w)));
}

fn octet_of_q8r(at: u32, coarse: bool) -> Octet {
  let words = vec2u(pages[at], pages[at + 1u]);
  let bytes = vec4u(0, 8, 16, 24);
  var low = (words.xxxx >> bytes) & vec4u(255);
  var high = (words.yyyy >> bytes) & vec4u(255);
  if (coarse) {
    // seven bits each, as the upper ones of eight; the fourth lies across the words
    let fourth = (words.x >> 29u) | (words.y << 3u);
    low = vec4u(words.x >> 8u, words.x >> 15u, words.x >> 22u, fourth) & vec4u(127);
    high = (words.yyyy >> vec4u(4, 11, 18, 25)) & vec4u(127);
    return Octet(level_of_q8r(vec4f(low) * 4.0 - 254.0), level_of_q8r(vec4f(high) * 4.0 - 254.0));
  }
  return Octet(level_of_q8r(vec4f(low) * 2.0 - 255.0), level_of_q8r(vec4f(high) * 2.0 - 255.0));
}

fn level_of_q8r(v: vec4f) -> vec4f {
  return v * (65536.0 + v * v);
}

fn octet_of_tq4(word: u32) -> Octet {
  let nibbles = vec4u(0, 4, 8, 12);
  let low = vec4f((vec4u(word) >> nibbles) & vec4u(15));
  let high = vec4f((vec4u(word >> 16u) >> nibbles) & vec4u(15));
  return Octet(level_of_tq4(low * 2.0 - 15.0), level_of_tq4(high * 2.0 - 15.0));
}

/** Whole numbers below 2^24 all along. */
fn level_of_tq4(v: vec4f) -> vec4f {
  let square = v * v;
  return v * (553000.0 + square * (32.0 + square * 4.0));
}

fn octet_of_trellis(codec: u32, dim: u32, base: u32, octet: u32) -> Octet {
  let stretch = record_stretch(codec, dim);
  let trellis = trellis_of(codec);
  let begin = octet * 8u * stretch;
  let at = 8u + (begin >> 8u);
  let word = base + (at >> 5u);
  let last = base + record_words(codec, dim) - 1u;
  let shift = at & 31u;
  let next = pages[min(word + 1u, last)];
  let low = joined(vec4u(pages[word]), vec4u(next), vec4u(shift));
  var high = vec4u(0);
  // the octet's last value ends beyond 32 bits
  if (((255u + 7u * stretch) >> 8u) + trellis.state_bits > 32u) {
    high = joined(vec4u(next), vec4u(pages[min(word + 2u, last)]), vec4u(shift));
  }
  let fraction = vec4u(select(begin & 255u, 0u, trellis.even_octets));
  let lower = joined(low, high, (fraction + vec4u(0, 1, 2, 3) * stretch) >> vec4u(8));
  let upper = joined(low, high, (fraction + vec4u(4, 5, 6, 7) * stretch) >> vec4u(8));
  return Octet(level_of_state(trellis, lower), level_of_state(trellis, upper));
}

/** The 32 bits from `shift` on, below 32, of two words. */
fn joined(low: vec4u, high: vec4u, shift: vec4u) -> vec4u {
  return (low >> shift) | ((high << vec4u(1)) << (vec4u(31) - shift));
}

/** Of the state in the low bits. No result lies so near to the middle of two integers that its rounding could turn. */
fn level_of_state(trellis: Trellis, bits: vec4u) -> vec4f {
  let states = 1u << trellis.state_bits;
  let spread = (bits * trellis.multiplier + vec4u(trellis.multiplier / 2u)) & vec4u(states - 1u);
  let u = vec4f(spread) - (f32(states) - 1.0) * 0.5;
  let square = u * u;
  return round(u * (trellis.p0 + trellis.p1 * square) / (1.0 - trellis.q * square));
}
