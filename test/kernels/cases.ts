// What each kernel is tried with: seeded data that is not uniform, ragged sizes, and what must come out: bytes, or numbers
// with a bound for each. The bounds are those of rounding: a sum of n terms in f32, in any order, with or without fused
// steps, is within n * 2^-24 * (sum of sizes) of the true one; a result in f16 adds half a unit in its 11th bit.
import { type AnyDispatch, type AnyWanted, type BufferRange, entry } from '../../core/gpu/kernel-choice.ts';
import { FORMAT, hadamardBlock, type KernelName, OPERATION, SIGNS } from '../../shaders/catalogue.ts';
import type { Element } from '../../shaders/kernel.ts';
import * as references from '../../shaders/references.ts';
import { angleTable, PAIRS, type Rotary } from '../../shaders/rope.ts';
import { rotate, unrotate } from '../../shaders/rotation.ts';
import { checksumSteps } from '../../shaders/steps.ts';
import type { Seeded } from '../support/seeded.ts';
import { ATTENTION_CASES } from './attention-cases.ts';
import { CODEC_CASES } from './codec-cases.ts';
import { ENTROPY_CASES } from './entropy-cases.ts';

export type Expected =
  | { readonly bytes: Uint8Array }
  | { readonly values: Float64Array; readonly bound: (i: number) => number; readonly element: Element }
  /** What only a function can tell, of so many bytes. */
  | { readonly length: number; readonly faultOf: (got: Uint8Array<ArrayBuffer>) => string | undefined };

export interface Case {
  readonly name: string;
  readonly kernel: KernelName;
  readonly element: Element;
  readonly constants: Readonly<Record<string, number>>;
  readonly parameters: Readonly<Record<string, number>>;
  readonly sources: Readonly<Record<string, ArrayBufferView>>;
  /** What the target holds before; a pattern, if nothing is said. */
  readonly initial?: Uint8Array<ArrayBuffer>;
  readonly expected: Expected;
}

const ROUNDING = 2 ** -24;
const FLOATS = ['f32', 'f16'] as const;
type Float = (typeof FLOATS)[number];

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
const places = (n: number) => Array.from({ length: n }, (_, i) => i);

/** Normal, with some values a hundred times larger: what a uniform sum hides, this shows. */
function gaussian(seed: Seeded, n: number, element: Float): Float32Array | Float16Array {
  const values = places(n).map(() => {
    const radius = Math.sqrt(-2 * Math.log(1 - seed.next()));
    return radius * Math.cos(2 * Math.PI * seed.next()) * (seed.below(50) === 0 ? 100 : 1);
  });
  return element === 'f16' ? Float16Array.from(values) : Float32Array.from(values);
}

const roundingOf = (element: Element, value: number): number =>
  element === 'f16' ? Math.max(Math.abs(value) * 2 ** -11, 2 ** -25) : 0;

// ---- bytes

const WORDS = [1, 2, 3, 4, 5, 63, 1000, 4097, 70_001];

function* fills(seed: Seeded): Generator<Case> {
  for (const words of WORDS) {
    const value = seed.below(2 ** 32);
    const bytes = bytesOf(new Uint32Array(words).fill(value));
    const base = { kernel: 'fill', element: 'u32', constants: {}, sources: {} } as const;
    yield { ...base, name: `${words} words`, parameters: { words, value }, expected: { bytes } };
  }
}

function* copies(seed: Seeded): Generator<Case> {
  for (const words of WORDS) {
    const source = seed.bytes(words * 4);
    const base = { kernel: 'copy', element: 'u32', constants: {} } as const;
    yield { ...base, name: `${words} words`, parameters: { words }, sources: { source }, expected: { bytes: source } };
  }
}

/** Every exponent with both signs: its first and last value, ties and their neighbours in both formats, and any other. */
function f32Bits(seed: Seeded): Uint32Array {
  const tails = [0, 1, 0x0fff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x3001, 0x7fff, 0x8000, 0x8001, 0x1_8000, 0x40_0000];
  const all = places(512).flatMap((top) =>
    [...tails, 0x7f_ffff, seed.below(0x80_0000)].map((low) => top * 0x80_0000 + low),
  );
  return Uint32Array.from(all);
}

function* packs(seed: Seeded): Generator<Case> {
  const all = f32Bits(seed);
  for (const [name, format] of Object.entries(FORMAT))
    for (const values of [1, 2, 3, 4, 5, 7, 8, 9, 1001, all.length]) {
      const source = values === all.length ? all : Uint32Array.from(all.slice(seed.below(6000))).slice(0, values);
      const bytes = bytesOf(references.pack(source, format));
      const base = { kernel: 'pack', element: 'u32', constants: { FORMAT: format } } as const;
      yield {
        ...base,
        name: `${source.length} ${name}`,
        parameters: { values: source.length },
        sources: { source },
        expected: { bytes },
      };
    }
}

function* unpacks(seed: Seeded): Generator<Case> {
  const all = Uint16Array.from(places(65_536));
  for (const [name, format] of Object.entries(FORMAT))
    for (const values of [1, 2, 3, 5, 6, 7, 9, 1003, all.length]) {
      const source = values === all.length ? all : Uint16Array.from(places(values), () => seed.below(65_536));
      const bytes = bytesOf(references.unpack(source, format));
      const base = { kernel: 'unpack', element: 'u32', constants: { FORMAT: format } } as const;
      yield { ...base, name: `${values} ${name}`, parameters: { values }, sources: { source }, expected: { bytes } };
    }
}

/** Only the first level: what the levels together give is tried in kernels.test.ts. */
function* checksums(seed: Seeded): Generator<Case> {
  for (const length of [0, 1, 3, 4, 15, 16, 17, 500, 512, 513, 65_536, 70_001, 200_003]) {
    const source = seed.bytes(length);
    const [first] = checksumSteps(length);
    if (!first) continue;
    const bytes = bytesOf(references.checksumLevel(source, first));
    const base = { kernel: 'checksum', element: 'u32', constants: {} } as const;
    yield { ...base, name: `${length} bytes`, parameters: { ...first }, sources: { source }, expected: { bytes } };
  }
}

// ---- numbers

function* hadamards(seed: Seeded): Generator<Case> {
  for (const element of FLOATS)
    for (const [width, rows] of [
      [64, 3],
      [128, 5],
      [256, 9],
      [80, 7],
      [96, 3],
      [64, 200],
      [80, 101],
    ] as const) {
      const block = hadamardBlock(width);
      if (element === 'f16' && block > 128) continue; // the same code; each is seconds of compiling on some adapters
      const values = width * rows;
      const source = gaussian(seed, values, element);
      const sizes = references.sumsOfSizes(source, block);
      const expected = references.hadamard(source, block);
      // log2(block) sums and the factor, whose inverse square root may be off by two units in its last place
      const bound = (i: number) =>
        ((Math.log2(block) + 5) * ROUNDING * (sizes[Math.floor(i / block)] ?? 0)) / Math.sqrt(block) +
        roundingOf(element, expected[i] ?? 0);
      const constants = { BLOCK: block, SIGNS: SIGNS.none, DIM: 0 };
      const base = { kernel: 'hadamard', element, constants } as const;
      yield {
        ...base,
        name: `${rows} x ${width} ${element}`,
        parameters: { values },
        sources: { source },
        expected: { values: expected, bound, element },
      };
    }
  yield* rotations(seed);
}

/** In f32 the same bits as on the processor, in every form. */
function* rotations(seed: Seeded): Generator<Case> {
  for (const [dim, rows] of [
    [64, 3],
    [80, 7],
    [96, 3],
    [128, 5],
    [256, 9],
  ] as const)
    for (const signs of [SIGNS.forward, SIGNS.inverse]) {
      const source = gaussian(seed, dim * rows, 'f32');
      const turned = Float32Array.from(source);
      for (let row = 0; row < rows; row++)
        (signs === SIGNS.forward ? rotate : unrotate)(turned.subarray(row * dim, (row + 1) * dim));
      const constants = { BLOCK: hadamardBlock(dim), SIGNS: signs, DIM: dim === 64 ? 0 : dim }; // 0: as BLOCK
      const base = { kernel: 'hadamard', element: 'f32', constants } as const;
      yield {
        ...base,
        name: `${rows} x ${dim} with signs ${signs === SIGNS.forward ? 'before' : 'after'}`,
        parameters: { values: dim * rows },
        sources: { source },
        expected: { bytes: bytesOf(turned) },
      };
    }
}

function* shifts(seed: Seeded): Generator<Case> {
  for (const [dim, vectors, each, begun] of [
    [64, 1, 1, 0],
    [80, 7, 3, 0],
    [96, 65, 64, 0],
    [128, 200, 64, 37],
    [256, 33, 1000, 999],
  ] as const) {
    const factor = seed.pick([1, -1]);
    const source = gaussian(seed, vectors * dim, 'f32') as Float32Array;
    const rows = gaussian(seed, Math.ceil((vectors + begun) / each) * dim, 'f32') as Float32Array;
    const parameters = { values: source.length, dim, each, begun, factor };
    const values = references.shift(source, rows, parameters);
    const bound = (i: number) => ROUNDING * Math.abs(values[i] ?? 0);
    const base = { kernel: 'shift', element: 'u32', constants: {}, parameters } as const;
    const expected = { values, bound, element: 'f32' } as const;
    yield { ...base, name: `${vectors} x ${dim}`, sources: { source, rows }, expected };
  }
}

/** Rows of `each` tokens from block `block` of a sequence on; the last positions of a million too. */
function* ropes(seed: Seeded): Generator<Case> {
  for (const [dim, dims, pairs, vectors, each, begun, block] of [
    [64, 64, 'halves', 1, 1, 0, 0],
    [80, 32, 'neighbours', 200, 70, 64, 2],
    [96, 96, 'halves', 130, 64, 0, 16_383],
    [128, 128, 'halves', 300, 100, 37, 1],
    [128, 128, 'neighbours', 65, 1 << 20, 1000, 0],
    [256, 64, 'halves', 33, 1000, 999, 5],
    [256, 256, 'neighbours', 64, 64, 0, 16_000],
  ] as const) {
    const rotary: Rotary = { theta: seed.pick([1e4, 5e5, 1e6]), scale: seed.pick([1, 4, 0.7]), pairs, dims };
    const source = gaussian(seed, vectors * dim, 'f32') as Float32Array;
    const blocks = Math.ceil(Math.min(each, vectors + begun) / 64);
    const before = block > 1000 ? 0 : block; // of the table, whose blocks need not be the sequence's first
    const angles = angleTable(
      rotary,
      places(before + blocks).map((i) => (i + block - before) * 64),
    );
    const parameters = { values: source.length, dim, turned: dims, each, begun, block: before };
    const values = references.rope(source, rotary, dim, (vector) => block * 64 + ((vector + begun) % each));
    const beside = (i: number) => (pairs === 'halves' ? (i + dims / 2) % dims : i ^ 1);
    const bound = (i: number) => {
      const [channel, own] = [i % dim, source[i] ?? 0];
      return channel >= dims ? 0 : 4e-7 * Math.hypot(own, source[i - channel + beside(channel)] ?? 0);
    };
    const base = { kernel: 'rope', element: 'u32', constants: { PAIRS: PAIRS[pairs] }, parameters } as const;
    const expected = { values, bound, element: 'f32' } as const;
    yield { ...base, name: `${vectors} x ${dims} of ${dim} ${pairs}`, sources: { source, angles }, expected };
  }
}

function* reduces(seed: Seeded): Generator<Case> {
  for (const element of FLOATS)
    for (const [name, operation] of Object.entries(OPERATION).slice(0, element === 'f16' ? 2 : 4))
      for (const [length, span] of [
        [1, 1],
        [7, 3],
        [1000, 1000],
        [4099, 4099],
        [10_000, 128],
        [5001, 77],
        [4096, 512],
      ] as const) {
        const source = gaussian(seed, length, element);
        const sums = operation === OPERATION.sum || operation === OPERATION.sumOfSquares;
        const squared = operation === OPERATION.sumOfSquares ? Float64Array.from(source, (x) => x * x) : source;
        const sizes = references.sumsOfSizes(squared, span);
        const values = references.reduce(source, span, operation);
        const bound = (i: number) => (sums ? span * ROUNDING * (sizes[i] ?? 0) : 0);
        const base = { kernel: 'reduce', element, constants: { OPERATION: operation } } as const;
        yield {
          ...base,
          name: `${name} of ${length} by ${span} ${element}`,
          parameters: { length, span },
          sources: { source },
          expected: { values, bound, element: 'f32' },
        };
      }
}

function productOf(
  left: references.Numbers,
  right: references.Numbers,
  shape: references.MatrixShape,
  element: Float,
): Expected {
  const values = references.matmul(left, right, shape);
  const sizes = references.matmul(Array.from(left, Math.abs), Array.from(right, Math.abs), shape);
  const bound = (i: number) => shape.inner * ROUNDING * (sizes[i] ?? 0) + roundingOf(element, values[i] ?? 0);
  return { values, bound, element };
}

function* matvecs(seed: Seeded): Generator<Case> {
  for (const element of FLOATS)
    for (const [rows, columns] of [
      [1, 1],
      [3, 5],
      [17, 128],
      [64, 1000],
      [130, 77],
      [300, 256],
    ] as const) {
      const matrix = gaussian(seed, rows * columns, element);
      const vector = gaussian(seed, columns, element);
      const expected = productOf(matrix, vector, { rows, inner: columns, columns: 1 }, element);
      const base = { kernel: 'matvec', element, constants: {} } as const;
      yield {
        ...base,
        name: `${rows} x ${columns} ${element}`,
        parameters: { rows, columns },
        sources: { matrix, vector },
        expected,
      };
    }
}

function* matmuls(seed: Seeded): Generator<Case> {
  for (const element of FLOATS)
    for (const [rows, inner, columns] of [
      [1, 1, 1],
      [3, 5, 7],
      [5, 8, 12],
      [65, 33, 67],
      [64, 64, 64],
      [128, 48, 192],
      [130, 100, 68],
    ] as const) {
      const left = gaussian(seed, rows * inner, element);
      const right = gaussian(seed, inner * columns, element);
      const expected = productOf(left, right, { rows, inner, columns }, element);
      const base = { kernel: 'matmul', element, constants: {} } as const;
      yield {
        ...base,
        name: `${rows} x ${inner} x ${columns} ${element}`,
        parameters: { rows, inner, columns },
        sources: { left, right },
        expected,
      };
    }
}

export const CASES: Readonly<Record<KernelName, (seed: Seeded) => Generator<Case>>> = {
  fill: fills,
  copy: copies,
  pack: packs,
  unpack: unpacks,
  shift: shifts,
  rope: ropes,
  checksum: checksums,
  hadamard: hadamards,
  reduce: reduces,
  matvec: matvecs,
  matmul: matmuls,
  ...ENTROPY_CASES,
  ...CODEC_CASES,
  ...ATTENTION_CASES,
};

export const wantedBy = (
  { kernel, element, constants }: Case,
  variant: string,
  tuning: Readonly<Record<string, number>>,
) => ({ kernel, element, constants, variant, tuning }) as AnyWanted;

/** The only place where names are not known to the compiler: a case names its kernel by a string. */
export const dispatchOf = (wanted: AnyWanted, { parameters }: Case, bindings: Readonly<Record<string, BufferRange>>) =>
  ({ ...wanted, parameters, bindings }) as AnyDispatch;

export const targetOf = ({ kernel }: Case): string =>
  Object.entries(entry(kernel).bindings).find(([, { access }]) => access === 'write')?.[0] ?? '';

export const bytesExpected = ({ expected }: Case): number =>
  'length' in expected
    ? expected.length
    : 'bytes' in expected
      ? expected.bytes.length
      : expected.values.length * (expected.element === 'f16' ? 2 : 4);

/** What is wrong with this answer; undefined if nothing is. */
export function faultOf({ expected }: Case, got: Uint8Array<ArrayBuffer>): string | undefined {
  if ('length' in expected) return expected.faultOf(got);
  if ('bytes' in expected) {
    const at = got.findIndex((byte, i) => byte !== expected.bytes[i]);
    return at < 0 ? undefined : `byte ${at} is ${got[at]}, not ${expected.bytes[at]}`;
  }
  const { values, bound, element } = expected;
  const numbers = element === 'f16' ? new Float16Array(got.buffer) : new Float32Array(got.buffer);
  const at = values.findIndex((value, i) => !(Math.abs((numbers[i] ?? Number.NaN) - value) <= bound(i)));
  return at < 0 ? undefined : `value ${at} is ${numbers[at]}, not ${values[at]} within ${bound(at)}`;
}
