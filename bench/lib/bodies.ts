// Bodies to send: safetensors files of one U8 tensor of seeded random bytes, two for each size, used in turns. Each use
// gets a serial number into its data, so that no two bodies of a run are equal and no rival can store one only once.
import { createHash } from 'node:crypto';
import { tensorHeader } from '../../core/contract/tensors.ts';

const SERIAL_BYTES = 8;

export interface Prepared {
  /** 0 or 1: which of the two bodies, and which of two keys it belongs under. */
  readonly slot: number;
  readonly body: Uint8Array;
  readonly digest: Uint8Array;
}

export interface Bodies {
  /** Of a whole file; the tensor has what was asked for. */
  readonly bytes: number;
  /** What each sha-256 so far has cost whoever signs. */
  readonly hashMs: readonly number[];
  /** The other body, unlike any before. It stays as it is until the call after the next. */
  next(): Prepared;
  /** Both as they are now. */
  readonly current: readonly Prepared[];
}

export function createBodies(tensorBytes: number, seed: number): Bodies {
  const header = tensorHeader([{ name: 'data', dtype: 'U8', shape: [tensorBytes] }]);
  const files = [1, 2].map((n) => {
    const file = new Uint8Array(header.length + tensorBytes);
    fillWithNoise(file.subarray(header.length), seed * 2 + n);
    file.set(header);
    return file;
  });
  const current: Prepared[] = [];
  const hashMs: number[] = [];
  let serial = 0;

  return {
    bytes: header.length + tensorBytes,
    hashMs,
    current,
    next() {
      const slot = serial % files.length;
      const body = files[slot];
      if (!body) throw new Error('there are two bodies');
      new DataView(body.buffer, header.length, SERIAL_BYTES).setBigUint64(0, BigInt(++serial));
      const started = performance.now();
      const digest = new Uint8Array(createHash('sha256').update(body).digest());
      hashMs.push(performance.now() - started);
      const prepared = { slot, body, digest };
      current[slot] = prepared;
      return prepared;
    },
  };
}

/** Marsaglia's xorshift, 32 bits; the same bytes for the same seed. */
function fillWithNoise(bytes: Uint8Array, seed: number): void {
  let state = seed * 0x9e37_79b9 || 1;
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.length / 4));
  for (let i = 0; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
}
