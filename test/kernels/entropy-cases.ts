// Cases for the kernels of lossless and ec: what the CPU references of core/codec give, stream by stream, bit by bit.

import { type EcAxis, ec, scaleOf, stepNear } from '../../core/codec/ec.ts';
import { classWords } from '../../core/codec/ec-classes.ts';
import { stepWords } from '../../core/codec/ec-steps.ts';
import { encodeLossless, type LosslessCoded, losslessLayout, losslessParts } from '../../core/codec/lossless.ts';
import { directoryWords, layStreams, rangesOf } from '../../core/codec/rans-streams.ts';
import {
  EC_AXIS,
  EC_BLOCK,
  EC_SLOT,
  LOSSLESS_FORMAT,
  LOSSLESS_LANES,
  LOSSLESS_SLOT,
  workBytes,
} from '../../shaders/entropy-kernels.ts';
import { parts } from '../../shaders/kernel.ts';
import * as references from '../../shaders/references.ts';
import type { Seeded } from '../support/seeded.ts';
import type { Case, Expected } from './cases.ts';

const KINDS = ['f16', 'bf16', 'f32'] as const;
const SEAL_WORDS = 4;
const PATTERN = 0xa5a5_a5a5;
const BITS = { element: 'u32' } as const;

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) =>
  new Uint8Array(buffer, byteOffset, byteLength).slice();
const wordsOf = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer);

function gaussian(seed: Seeded, n: number): Float32Array<ArrayBuffer> {
  return new Float32Array(n).map(() => Math.sqrt(-2 * Math.log(1 - seed.next())) * Math.cos(2 * Math.PI * seed.next()));
}

/** Normal numbers, and among them some of any bits at all. */
export function normalContent(seed: Seeded, kind: LosslessCoded, values: number): Uint8Array<ArrayBuffer> {
  const floats = gaussian(seed, values);
  const content =
    kind === 'f32' ? bytesOf(floats) : bytesOf(references.pack(new Uint32Array(floats.buffer), kind === 'f16' ? 0 : 1));
  for (let i = 0; i < values / 500; i++) content.set(seed.bytes(2), seed.below(content.length / 2) * 2);
  return content;
}

const padded = (content: Uint8Array): Uint32Array<ArrayBuffer> => {
  const words = new Uint32Array(Math.ceil(content.length / 4));
  new Uint8Array(words.buffer).set(content);
  return words;
};

/** Words of the target against words; where `wanted` has none, anything may stand. */
function wordsExpected(length: number, wanted: (words: Uint32Array) => string | undefined): Expected {
  return { length, faultOf: (got) => wanted(new Uint32Array(got.buffer, got.byteOffset, got.byteLength >> 2)) };
}

/** Streams at the ends of their slots, their lengths in front. */
function slotsExpected(streams: readonly Uint32Array[], slot: number, length: number): Expected {
  const first = parts(streams.length, 4) * 4;
  return wordsExpected(length, (words) => {
    for (const [i, stream] of streams.entries()) {
      if (words[i] !== stream.length) return `stream ${i} has ${words[i]} words, not ${stream.length}`;
      const end = first + (i + 1) * slot;
      const at = stream.findIndex((word, k) => word !== words[end - stream.length + k]);
      if (at >= 0) return `word ${at} of ${stream.length} of stream ${i} is not ${stream[at]}`;
    }
    return undefined;
  });
}

// ---- lossless

const LENGTHS = [4, 5, 1030, 2051, 33_791, 70_002];

function* losslessContents(seed: Seeded) {
  for (const kind of KINDS)
    for (const values of kind === 'f16' ? LENGTHS : [7, 1030, 33_789]) {
      const content = normalContent(seed, kind, values);
      const words = padded(content);
      const fours = values >> 2;
      const { table, rest, streams } = losslessParts(words, fours, kind);
      const layout = losslessLayout(kind, content.length, table.frequencies);
      const constants = { FORMAT: LOSSLESS_FORMAT[kind] };
      yield { name: `${values} ${kind}`, kind, content, words, fours, table, rest, streams, layout, constants };
    }
}

function* losslessCounts(seed: Seeded): Generator<Case> {
  for (const { name, content, fours, kind, constants } of losslessContents(seed))
    for (const count of [1, 7]) {
      const wanted = new Uint32Array(256);
      const values = kind === 'f32' ? new Uint32Array(content.buffer) : new Uint16Array(content.buffer);
      for (const value of values.subarray(0, fours * 4)) {
        const symbol = kind === 'f16' ? value >> 8 : kind === 'bf16' ? (value >> 7) & 0xff : (value >>> 23) & 0xff;
        wanted[symbol] = (wanted[symbol] ?? 0) + 1;
      }
      const expected = wordsExpected(count * 1024, (words) => {
        const sums = wanted.map((_, symbol) => {
          return Array.from({ length: count }, (_, part) => words[part * 256 + symbol] ?? 0).reduce((a, b) => a + b);
        });
        const at = sums.findIndex((sum, symbol) => sum !== wanted[symbol]);
        return at < 0 ? undefined : `symbol ${at} is counted ${sums[at]} times, not ${wanted[at]}`;
      });
      const parameters = { bytes: content.length, parts: count };
      yield { ...BITS, kernel: 'lossless-count', name, constants, parameters, sources: { source: content }, expected };
    }
}

function* losslessEncodes(seed: Seeded): Generator<Case> {
  for (const { name, content, table, streams, constants } of losslessContents(seed)) {
    const sources = { source: content, encoding: table.encode };
    const lanes = parts(content.length, 8 * 256 * LOSSLESS_LANES) * LOSSLESS_LANES;
    const expected = slotsExpected(streams, LOSSLESS_SLOT, workBytes(lanes, LOSSLESS_SLOT));
    const parameters = { bytes: content.length };
    yield { ...BITS, kernel: 'lossless-encode', name, constants, parameters, sources, expected };
  }
}

function* losslessRests(seed: Seeded): Generator<Case> {
  for (const { name, content, words, rest, layout, constants } of losslessContents(seed)) {
    const container = new Uint32Array(layout.directory).fill(PATTERN);
    container.set(rest, layout.rest);
    container.set(words.subarray(words.length - layout.tailWords), layout.tail);
    const parameters = { bytes: content.length, rest: layout.rest, directory: layout.directory };
    const expected = { bytes: bytesOf(container) };
    yield { ...BITS, kernel: 'lossless-rest', name, constants, parameters, sources: { source: content }, expected };
  }
}

function* losslessDecodes(seed: Seeded): Generator<Case> {
  for (const { name, kind, content, layout, table, constants } of losslessContents(seed)) {
    const container = wordsOf(encodeLossless(content, kind));
    if (container[1] === 0) continue; // too small to be coded
    const sources = { container, decoding: table.decode, faults: new Uint32Array(10_000) };
    const { rest, directory } = layout;
    const parameters = { bytes: content.length, rest, directory, end: container.length - SEAL_WORDS };
    const expected = { bytes: content };
    yield { ...BITS, kernel: 'lossless-decode', name, constants, parameters, sources, expected };
  }
}

// ---- streams

function* streamSets(seed: Seeded) {
  for (const [blocks, perBlock] of [
    [1, 1],
    [3, 5],
    [200, 9],
    [70, 32],
  ] as const) {
    const slot = 40;
    const streams = Array.from({ length: blocks * perBlock }, () => {
      return Uint32Array.from({ length: seed.below(4) === 0 ? 0 : seed.below(slot + 1) }, () => seed.below(2 ** 32));
    });
    const first = parts(streams.length, 4) * 4;
    const work = new Uint32Array(first + streams.length * slot);
    for (const [i, stream] of streams.entries()) {
      work[i] = stream.length;
      work.set(stream, first + (i + 1) * slot - stream.length);
    }
    const directory = 3;
    const streamsAt = directory + blocks * directoryWords(perBlock);
    const container = new Uint32Array(streamsAt + streams.reduce((sum, { length }) => sum + length, 0));
    layStreams(container, directory, perBlock, streams);
    container.fill(PATTERN, 0, directory);
    yield { name: `${blocks} x ${perBlock}`, blocks, perBlock, slot, work, directory, streamsAt, container };
  }
}

function* directories(seed: Seeded): Generator<Case> {
  for (const { name, blocks, perBlock, work, directory, streamsAt, container } of streamSets(seed)) {
    const base = { ...BITS, kernel: 'streams-directory', constants: {} } as const;
    const parameters = { blocks, perBlock, directory };
    const expected = { bytes: bytesOf(container.slice(0, streamsAt)) };
    yield { ...base, name, parameters, sources: { work }, expected };
  }
}

function* gathers(seed: Seeded): Generator<Case> {
  for (const { name, blocks, perBlock, slot, work, directory, streamsAt, container } of streamSets(seed))
    for (const end of [container.length, (container.length + streamsAt) >> 1]) {
      const initial = new Uint32Array(container.length).fill(PATTERN);
      initial.set(container.subarray(0, streamsAt));
      const wanted = container.map((word, i) => (i < end ? word : PATTERN));
      const base = { ...BITS, kernel: 'streams-gather', constants: {}, initial: bytesOf(initial) } as const;
      const parameters = { blocks, perBlock, slot, directory, end };
      const expected = { bytes: bytesOf(wanted) };
      yield { ...base, name: `${name} to ${end}`, parameters, sources: { work }, expected };
    }
}

// ---- ec

/** Channels of different widths and means; some values that have no step. */
export function ecContent(seed: Seeded, vectors: number, dim: number): Float32Array<ArrayBuffer> {
  const values = gaussian(seed, vectors * dim).map((x, i) => x * (0.2 + ((i % dim) % 7)) + ((i % dim) % 11) - 4);
  const bits = new Uint32Array(values.buffer);
  const odd = [0x7f80_0000, 0xffc1_2345, 0x7f7f_ffff, 0x8000_0000, 0x0000_0001, 0x7149_f2ca, 0xc47a_0000];
  for (let i = 0; i < values.length / 900; i++) bits[seed.below(bits.length)] = odd[i % odd.length] ?? 0;
  return values;
}

function* ecContents(seed: Seeded) {
  for (const axis of Object.keys(EC_AXIS) as EcAxis[])
    for (const [vectors, dim] of [
      [64, 128],
      [1, 16],
      [70, 80],
      [135, 64],
      [64, 256],
    ] as const) {
      const values = ecContent(seed, vectors, dim);
      const shape = { vectors, dim };
      const steps = Array.from({ length: parts(vectors, EC_BLOCK) }, () => stepNear(0.1 + seed.next()));
      const bytes = ec.encode(values, shape, { axis, steps });
      const name = `${axis} of ${vectors} x ${dim}`;
      yield { name, axis, values, shape, steps, container: wordsOf(bytes), constants: { AXIS: EC_AXIS[axis] } };
    }
}

/** A word for each channel or vector of each block; bit 4 always set: it may be, and costs time only. */
function scaleWords(
  values: Float32Array,
  { vectors, dim }: { vectors: number; dim: number },
  axis: EcAxis,
  steps: readonly number[],
) {
  const perBlock = axis === 'channels' ? dim : EC_BLOCK;
  const words = new Uint32Array(steps.length * Math.max(dim, EC_BLOCK));
  for (const [block, step] of steps.entries()) {
    const own = values.subarray(block * EC_BLOCK * dim, Math.min(vectors, (block + 1) * EC_BLOCK) * dim);
    const { scale } = scaleOf(own, dim, axis, step);
    for (const [i, each] of scale.classes.entries())
      words[block * perBlock + i] = each | 16 | ((scale.means[i] ?? 0) << 16);
  }
  return words;
}

function* ecScales(seed: Seeded): Generator<Case> {
  for (const { name, axis, values, shape, steps, constants } of ecContents(seed)) {
    const wanted = scaleWords(values, shape, axis, steps);
    const expected = wordsExpected(wanted.byteLength, (words) => {
      const at = wanted.findIndex((word, i) => word !== 0 && word !== ((words[i] ?? 0) | 16) >>> 0);
      return at < 0 ? undefined : `scale ${at} is ${words[at]?.toString(16)}, not ${wanted[at]?.toString(16)}`;
    });
    const sources = { source: values, steps: stepWords(steps, shape), classes: classWords().encode };
    yield { ...BITS, kernel: 'ec-scale', name, constants, parameters: shape, sources, expected };
  }
}

function* ecEncodes(seed: Seeded): Generator<Case> {
  for (const { name, axis, values, shape, steps, container, constants } of ecContents(seed)) {
    if ((container[1] ?? 0) % 256 === 2) continue; // nothing is gained by coding so few
    const perBlock = 1 + shape.dim / 16;
    const begins = rangesOf(container.subarray(0, -SEAL_WORDS), 4, perBlock, steps.length);
    const streams = Array.from({ length: begins.length - 1 }, (_, i) => container.subarray(begins[i], begins[i + 1]));
    const scales = scaleWords(values, shape, axis, steps);
    const sources = { source: values, steps: stepWords(steps, shape), classes: classWords().encode, scales };
    const expected = slotsExpected(streams, EC_SLOT, workBytes(streams.length, EC_SLOT));
    yield { ...BITS, kernel: 'ec-encode', name, constants, parameters: shape, sources, expected };
  }
}

function* ecDecodes(seed: Seeded): Generator<Case> {
  for (const { name, shape, container, constants } of ecContents(seed)) {
    if ((container[1] ?? 0) % 256 === 2) continue;
    const sources = { container, classes: classWords().decode, faults: new Uint32Array(100) };
    const { values } = ec.decode(bytesOf(container));
    const parameters = { ...shape, end: container.length - SEAL_WORDS };
    yield { ...BITS, kernel: 'ec-decode', name, constants, parameters, sources, expected: { bytes: bytesOf(values) } };
  }
}

export const ENTROPY_CASES = {
  'lossless-count': losslessCounts,
  'lossless-encode': losslessEncodes,
  'lossless-rest': losslessRests,
  'lossless-decode': losslessDecodes,
  'streams-directory': directories,
  'streams-gather': gathers,
  'ec-scale': ecScales,
  'ec-encode': ecEncodes,
  'ec-decode': ecDecodes,
} as const;
