// The codec `lossless`: every bit comes back, at the size that it states, and nothing comes back from a damaged container.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CorruptContainer } from '../../../core/codec/block-codec.ts';
import { sealed } from '../../../core/codec/checksum.ts';
import { decodeLossless, encodeLossless, type LosslessKind } from '../../../core/codec/lossless.ts';
import { FORMAT } from '../../../shaders/catalogue.ts';
import { pack } from '../../../shaders/references.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { seeded } from '../../support/seeded.ts';
import { normalVectors } from './kv-data.ts';

const random = seeded();
const where = `SEED=${random.seed}`;
const KINDS = ['f16', 'bf16', 'f32'] as const;
type Kind = (typeof KINDS)[number];
const BYTES: Readonly<Record<Kind, number>> = { f16: 2, bf16: 2, f32: 4 };
const LENGTHS = [0, 1, 2, 3, 4, 5, 7, 63, 64, 65, 1000, 1023, 1024, 4097, 32_768, 32_769, 33_800, 100_003];

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);

function normal(kind: Kind, values: number): Uint8Array {
  const floats = normalVectors(random.below(1e9), values, 1);
  return bytesOf(kind === 'f32' ? floats : pack(new Uint32Array(floats.buffer), FORMAT[kind]));
}

function assertComesBack(content: Uint8Array, kind: LosslessKind, what: string): Uint8Array {
  const container = encodeLossless(content, kind);
  assertSameBytes(decodeLossless(container), content, `${what}, ${where}`);
  return container;
}

describe('encodeLossless()', () => {
  for (const kind of KINDS) {
    test(`${kind}: normal numbers of any count come back, and are never more than 32 bytes larger`, () => {
      for (const length of LENGTHS) {
        const content = normal(kind, length);
        const container = assertComesBack(content, kind, `${length} values`);
        assert.ok(container.length <= Math.ceil(content.length / 4) * 4 + 32, `${length}: ${container.length}`);
      }
    });

    test(`${kind}: bits without order come back, and are never more than 32 bytes larger`, () => {
      for (const length of [1, 1000, 40_001]) {
        const content = random.bytes(length * BYTES[kind]);
        const container = assertComesBack(content, kind, `${length} values`);
        assert.ok(container.length <= Math.ceil(content.length / 4) * 4 + 32, `${length}: ${container.length}`);
      }
    });

    test(`${kind}: one value over and over costs what does not compress, and nearly nothing more`, () => {
      const content = new Uint8Array(40_000 * BYTES[kind]).map((_, i) => [0x12, 0xc0, 0x34, 0x56][i % 4] ?? 0);
      const one = content.map((_, i) => content[i % BYTES[kind]] ?? 0);
      const container = assertComesBack(one, kind, 'a constant');
      assert.ok(container.length < 40_000 * (BYTES[kind] - 1) * 1.01 + 200, `${container.length}`);
    });
  }

  test('brings back all 2^16 patterns of f16 and bf16: NaN payloads, both zeros, denormals, infinities', () => {
    const all = Uint16Array.from({ length: 65_536 }, (_, i) => i);
    for (const kind of ['f16', 'bf16'] as const) {
      assertComesBack(bytesOf(all), kind, `all ${kind}`);
      // and where it pays to code them, so that none is spared by being kept plain
      const many = new Uint16Array(400_000).fill(0x3c00);
      many.set(all, 1001);
      const container = assertComesBack(bytesOf(many), kind, `all ${kind} among ones`);
      assert.ok(container.length < many.byteLength * 0.75);
    }
  });

  test('brings back f32 of every sign and exponent, with every kind of mantissa', () => {
    const patterns = Array.from({ length: 512 }, (_, top) =>
      [0, 1, 0x40_0000, 0x7f_ffff, random.below(0x80_0000)].map((low) => top * 0x80_0000 + low),
    ).flat();
    const many = new Uint32Array(60_000).fill(0x3f80_0000);
    many.set(patterns, 777);
    const container = assertComesBack(bytesOf(many), 'f32', 'f32 patterns');
    assert.ok(container.length < many.byteLength * 0.9);
  });

  test('keeps bytes of any other kind, and any number of them', () => {
    for (const length of [0, 1, 2, 3, 4, 5, 1001]) {
      const content = random.bytes(length);
      const container = assertComesBack(content, 'plain', `${length} bytes`);
      assert.equal(container.length, Math.ceil(length / 4) * 4 + 32);
      for (const kind of KINDS) assertComesBack(content, kind, `${length} bytes as ${kind}`);
    }
  });

  test('takes content that begins anywhere in its buffer, and leaves it alone', () => {
    const buffer = normal('bf16', 5001);
    const content = buffer.subarray(3, 8003);
    const before = content.slice();
    assertComesBack(content, 'bf16', 'a part');
    assertSameBytes(content, before, 'the content');
  });

  test('brings normal numbers to .848 (f16) and .664 (bf16) of their size', () => {
    for (const [kind, share] of [
      ['f16', 0.848],
      ['bf16', 0.664],
    ] as const) {
      const content = normal(kind, 1 << 18);
      const container = assertComesBack(content, kind, '2^18 values');
      assert.ok(container.length <= share * content.length, `${kind}: ${container.length / content.length}`);
    }
  });
});

describe('decodeLossless()', () => {
  const flipped = (bytes: Uint8Array, bit: number) => {
    const changed = bytes.slice();
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return changed;
  };

  test('refuses a container with any one bit changed', () => {
    const containers = [encodeLossless(normal('bf16', 1102), 'bf16'), encodeLossless(normal('f32', 20), 'f32')];
    assert.ok((containers[0]?.length ?? 0) < 1800, 'the first one is coded');
    for (const container of containers)
      for (let bit = 0; bit < container.length * 8; bit++)
        assert.throws(() => decodeLossless(flipped(container, bit)), CorruptContainer, `bit ${bit}`);
  });

  test('refuses a container that is cut or longer', () => {
    const container = encodeLossless(normal('f16', 9000), 'f16');
    for (const length of [0, 1, 4, 16, 31, 32, container.length - 4, container.length - 1])
      assert.throws(() => decodeLossless(container.subarray(0, length)), CorruptContainer, `${length} bytes`);
    const longer = new Uint8Array(container.length + 4);
    longer.set(container);
    assert.throws(() => decodeLossless(longer), CorruptContainer);
  });

  test('gives an answer of the stated length or refuses, even where the checksum is right', () => {
    const container = encodeLossless(normal('bf16', 3001), 'bf16');
    let refused = 0;
    for (let round = 0; round < 2000; round++) {
      const changed = new Uint32Array(container.slice().buffer);
      const at = random.below(3) === 0 ? random.below(40) : random.below(changed.length - 4);
      changed[at] = random.below(4) === 0 ? random.below(2 ** 32) : (changed[at] ?? 0) ^ (1 << random.below(32));
      const fresh = sealed(changed);
      try {
        assert.equal(decodeLossless(fresh).length, changed[2], where);
      } catch (error) {
        assert.ok(error instanceof CorruptContainer, `${error}, ${where}`);
        refused++;
      }
    }
    assert.ok(refused > 500, `${refused} refused`); // what is changed in the plain rest cannot be seen this way
  });
});
