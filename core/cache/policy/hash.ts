// A name's 32-bit hash, signed, as entries keep it: FNV-1a over its code units, then mixed so that each bit counts. Pure.

export function hashOf(name: string): number {
  let hash = 0x811c_9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x0100_0193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x21f0_aaad);
  hash = Math.imul(hash ^ (hash >>> 15), 0x735a_2d97);
  return hash ^ (hash >>> 15);
}
