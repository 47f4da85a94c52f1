// The entropy-coded codecs of core/codec as contestants: bits are those of the bytes that were really made, of `ec` in containers
// of one page (64 tokens of 8 heads), directories and checksums included; what is told of a container is read back from it.
import { Buffer } from 'node:buffer';
import { type EcAxis, type EcRate, ec } from '../../core/codec/ec.ts';
import { decodeLossless, encodeLossless } from '../../core/codec/lossless.ts';
import { packBf16, packF16 } from '../../shaders/references.ts';
import { type Coder, type Contestant, remembering, rotated } from './coded.ts';
import type { Vectors } from './kv-data.ts';
import { WrongAnswer } from './report.ts';

const PAGE_VECTORS = 64 * 8;

function* pagesOf(values: Float32Array, dim: number) {
  const page = PAGE_VECTORS * dim;
  for (let at = 0; at < values.length; at += page) yield { at, page: values.subarray(at, at + page) };
}

// ---- ec

const byPages = (axis: EcAxis, rate: EcRate): Coder =>
  remembering(({ values, dim }) => {
    const result = new Float32Array(values.length);
    let bytes = 0;
    for (const { at, page } of pagesOf(values, dim)) {
      const container = ec.encode(page, { vectors: page.length / dim, dim }, { axis, ...rate });
      bytes += container.length;
      result.set(ec.decode(container).values, at);
    }
    return { values: result, bits: (bytes * 8) / values.length };
  });

/** K by channel, as it is; V by vector, rotated. */
export const ecKeys = (rate: EcRate): Coder => byPages('channels', rate);
export const ecValues = (rate: EcRate): Coder => rotated(byPages('vectors', rate));

const atBits = (bits: number): Contestant => ({
  ...{ name: `ec ${bits}`, isOurs: true, series: 'ec' },
  ...{ keys: ecKeys({ bits }), values: ecValues({ bits }) },
});

export const EC: readonly Contestant[] = [atBits(5), atBits(4), atBits(3), atBits(2)];

/** K deserves more bits than V, as its error is multiplied by the logits' deviation. */
export const EC_UNEVEN: Contestant = {
  ...{ name: 'ec K5.2 V4.4', isOurs: true, keys: ecKeys({ bits: 5.2 }), values: ecValues({ bits: 4.4 }) },
};

// ---- lossless

export const SIXTEEN_BITS = { f16: packF16, bf16: packBf16 } as const;

/** Its size by that of the 16-bit values, all in one container as a tensor is; every bit has come back. */
export function losslessRatio({ values }: Vectors, kind: keyof typeof SIXTEEN_BITS): number {
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const { buffer } = Uint16Array.from(words, SIXTEEN_BITS[kind]);
  const plain = new Uint8Array(buffer);
  const container = encodeLossless(plain, kind);
  if (Buffer.compare(decodeLossless(container), plain) !== 0) throw new WrongAnswer(`lossless ${kind} lost something`);
  return container.length / plain.length;
}
