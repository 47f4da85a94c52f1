// The fixed random signs that a rotation gives to channels before its Hadamard transform: a hash of the channel's number,
// the same in every width, so that a shorter vector has the signs of a longer one's beginning. signs.wgsl has the same. What
// is stored rotated depends on them: they must never change. Pure.

/** 1 or -1. */
export function signOf(channel: number): number {
  const spread = Math.imul(channel, 0x9e37_79b1);
  const hash = Math.imul(spread ^ (spread >>> 15), 0x85eb_ca77);
  return hash < 0 ? -1 : 1;
}
