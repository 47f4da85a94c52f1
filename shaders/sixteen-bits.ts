// One value in 16 bits, f16 or bf16, and in 32: what pack.wgsl and unpack.wgsl do. In integers, on bits, so that NaN and
// denormals come out the same everywhere: to nearest, ties to even; beyond the range lies infinity; NaN keeps its sign and
// the upper bits of its payload, and becomes quiet.

const isNaN32 = (bits: number): boolean => (bits & 0x7fff_ffff) > 0x7f80_0000;

/** A mantissa and what is cut off it, to nearest, ties to even. */
function roundedShift(value: number, places: number): number {
  const below = value % 2 ** places;
  const kept = Math.floor(value / 2 ** places);
  const half = 2 ** (places - 1);
  return below > half || (below === half && kept % 2 === 1) ? kept + 1 : kept;
}

/** The bits of an f32 as those of the nearest f16. */
export function packF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fff_ffff;
  if (isNaN32(bits)) return sign | 0x7e00 | ((size >>> 13) & 0x3ff);
  const exponent = size >>> 23;
  if (exponent >= 143) return sign | 0x7c00;
  const mantissa = (size & 0x7f_ffff) + (exponent > 0 ? 0x80_0000 : 0);
  if (exponent >= 113) return sign | (roundedShift(mantissa, 13) + (exponent - 113) * 0x400);
  return sign | roundedShift(mantissa, 126 - Math.max(exponent, 1));
}

/** The bits of an f32 as those of the nearest bf16. */
export function packBf16(bits: number): number {
  if (isNaN32(bits)) return ((bits >>> 16) | 0x40) & 0xffff;
  return roundedShift(bits >>> 0, 16) & 0xffff;
}

export function unpackF16(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >>> 10) & 0x1f;
  let mantissa = bits & 0x3ff;
  if (exponent === 31) return (sign | 0x7f80_0000 | (mantissa << 13)) >>> 0;
  if (exponent > 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
  if (mantissa === 0) return sign >>> 0;
  let power = 113;
  for (; mantissa < 0x400; power--) mantissa *= 2;
  return (sign | (power << 23) | ((mantissa & 0x3ff) << 13)) >>> 0;
}

export const unpackBf16 = (bits: number): number => (bits << 16) >>> 0;
