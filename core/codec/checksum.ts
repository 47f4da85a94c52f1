// The 128-bit checksum of the kernel `checksum`, on the processor: the same bits, of whole words. It finds faults and
// equals; it is no defence against who wants to deceive. A change within one unit of 16 bytes always changes it.
// A container carries it at its end: `sealed` puts it there, `unsealed` refuses what does not have it.
import { CHECKSUM_UNITS } from '../../shaders/catalogue.ts';
import { type ChecksumStep, checksumSteps } from '../../shaders/steps.ts';
import { CorruptContainer } from './block-codec.ts';

export const SEAL_WORDS = 4;

export function checksumOf(words: Uint32Array): Uint32Array<ArrayBuffer> {
  let level = new Uint32Array(Math.ceil(words.length / 4) * 4);
  level.set(words);
  for (const step of checksumSteps(words.length * 4)) level = levelOf(level, step);
  return level;
}

/** Puts the checksum of all other words into the last four. */
export function sealed(words: Uint32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const body = words.subarray(0, words.length - SEAL_WORDS);
  words.set(checksumOf(body), body.length);
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** The words of a container, without its checksum. */
export function unsealed(bytes: Uint8Array): Uint32Array {
  const count = bytes.length / 4;
  if (!Number.isInteger(count) || count < SEAL_WORDS)
    throw new CorruptContainer(`it has ${bytes.length} bytes, which is no number of words, or too few`);
  const words = new Uint32Array(count);
  new Uint8Array(words.buffer).set(bytes);
  const body = words.subarray(0, count - SEAL_WORDS);
  const seal = checksumOf(body);
  if (seal.some((word, i) => word !== words[body.length + i]))
    throw new CorruptContainer('its checksum is not that of its bytes');
  return body;
}

function levelOf(units: Uint32Array, { bytes, streams, lanes, level }: ChecksumStep): Uint32Array<ArrayBuffer> {
  const count = Math.ceil(bytes / 16);
  const digests = new Uint32Array(streams * 4);
  const state = mixer();
  for (let stream = 0; stream < streams; stream++) {
    state.begin();
    state.mix(stream, level, bytes, 0);
    const first = Math.floor(stream / lanes) * lanes * CHECKSUM_UNITS + (stream % lanes);
    const end = Math.min(count, first + lanes * CHECKSUM_UNITS);
    for (let unit = first; unit < end; unit += lanes) {
      const at = unit * 4;
      state.mix(units[at] ?? 0, units[at + 1] ?? 0, units[at + 2] ?? 0, units[at + 3] ?? 0);
    }
    state.finish(digests, stream * 4);
  }
  return digests;
}

/** Four words in locals, not in an array: this runs over all that is stored. */
function mixer() {
  let a = 0;
  let b = 0;
  let c = 0;
  let d = 0;
  const turned = (x: number, places: number, by: number) => Math.imul((x << places) | (x >>> (32 - places)), by);
  const mix = (x: number, y: number, z: number, w: number) => {
    b = turned(b ^ Math.imul(y, 0x85eb_ca77), 15, 0xd3a2_646d);
    d = turned(d ^ Math.imul(w, 0x27d4_eb2f), 19, 0xb55a_4f09);
    a = (turned(a ^ Math.imul(x, 0x9e37_79b1), 13, 0x1656_67b1) + b) | 0;
    c = (turned(c ^ Math.imul(z, 0xc2b2_ae3d), 17, 0xfd70_46c5) + d) | 0;
    b = (b + c) | 0;
    d = (d + a) | 0;
  };
  const shift = (places: number) => {
    a ^= a >>> places;
    b ^= b >>> places;
    c ^= c >>> places;
    d ^= d >>> places;
  };
  return {
    mix,
    begin() {
      [a, b, c, d] = [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f];
    },
    finish(target: Uint32Array, at: number) {
      for (let round = 0; round < 3; round++) {
        shift(15);
        mix(round, round, round, round);
        shift(13);
      }
      target.set([a, b, c, d], at);
    },
  };
}
