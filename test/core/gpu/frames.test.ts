// Frames: whatever the chunks of the stream, the frames are the same, and what is malformed is said at once.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createFrameReader,
  decodeJson,
  decodeTransfer,
  encodeHead,
  encodeJson,
  encodeTransfer,
  HEADER_BYTES,
  INLINE,
  Op,
} from '../../../core/gpu/frames.ts';
import { type Seeded, seeded } from '../../support/seeded.ts';

const MAX = 1 << 20;

interface Frame {
  op: number;
  id: number;
  payload: Uint8Array;
}

const streamOf = (frames: readonly Frame[]): Uint8Array =>
  Buffer.concat(frames.flatMap(({ op, id, payload }) => [encodeHead(op, id, payload.length), payload]));

function* chunksOf(stream: Uint8Array, random: Seeded, most: number): Generator<Uint8Array> {
  for (let at = 0; at < stream.length; ) {
    const n = random.below(most + 1);
    yield stream.subarray(at, at + n);
    at += n;
  }
}

/** All that a reader says of a stream; payloads copied, as their memory may be the reader's. */
function readAll(chunks: Iterable<Uint8Array>, place: (id: number) => Uint8Array[] | undefined = () => undefined) {
  const frames: Frame[] = [];
  const receive = createFrameReader(
    {
      place: ({ id }) => place(id),
      frame: ({ op, id, length }, payload) => {
        const isPlaced = length > 0 && place(id) !== undefined;
        assert.equal(payload.length, isPlaced ? 0 : length);
        frames.push({ op, id, payload: Uint8Array.from(payload) });
      },
    },
    MAX,
  );
  for (const chunk of chunks) receive(chunk);
  return frames;
}

test('createFrameReader() gives the same frames however the stream is cut', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  for (let round = 0; round < 60; round++) {
    const frames = Array.from({ length: 1 + random.below(12) }, () => ({
      op: random.below(256),
      id: random.below(2 ** 32),
      payload: random.bytes(random.pick([0, 1, 15, 16, 17, random.below(9000)])),
    }));
    const stream = streamOf(frames);
    assert.deepEqual(readAll([stream]), frames);
    assert.deepEqual(readAll(chunksOf(stream, random, random.pick([1, 3, 17, 5000]))), frames);
  }
});

test('createFrameReader() puts a payload where it belongs, in order, and nothing beside it', () => {
  const random = seeded();
  for (let round = 0; round < 30; round++) {
    const payload = random.bytes(3000);
    const memory = new Uint8Array(4000).fill(0xee);
    const cuts = [0, ...Array.from({ length: random.below(6) }, () => random.below(3001)), 3007].sort((a, b) => a - b);
    const places = cuts.slice(1).map((end, i) => memory.subarray(cuts[i], end));
    const stream = streamOf([
      { op: Op.done, id: 7, payload },
      { op: Op.done, id: 8, payload: Uint8Array.of(1, 2, 3) },
    ]);
    const frames = readAll(chunksOf(stream, random, 1 + random.below(4000)), (id) => (id === 7 ? places : undefined));
    assert.deepEqual(memory.subarray(0, 3000), payload);
    assert.ok(memory.subarray(3000).every((byte) => byte === 0xee));
    assert.deepEqual(frames[1]?.payload, Uint8Array.of(1, 2, 3));
  }
});

test('createFrameReader() asks for no place where there is no payload', () => {
  const asked: number[] = [];
  readAll([encodeHead(Op.done, 5, 0)], (id) => {
    asked.push(id);
    return undefined;
  });
  assert.deepEqual(asked, []);
});

test('createFrameReader() throws at a payload that its place cannot hold', () => {
  const stream = streamOf([{ op: Op.done, id: 1, payload: new Uint8Array(60) }]);
  assert.throws(() => readAll([stream], () => [new Uint8Array(1), new Uint8Array(2)]), /60 bytes .* room for 3/);
});

test('createFrameReader() throws at a wrong magic number, wherever the chunks end', () => {
  for (let wrong = 0; wrong < 4; wrong++) {
    const stream = streamOf([{ op: Op.done, id: 1, payload: Uint8Array.of(1) }]);
    stream[wrong] = (stream[wrong] ?? 0) ^ 1;
    assert.throws(() => readAll([stream]), /magic/);
    assert.throws(() => readAll(Array.from(stream, (byte) => Uint8Array.of(byte))), /magic/);
  }
});

test('createFrameReader() throws at a payload over the limit before any of it came, and takes one at the limit', () => {
  assert.throws(() => readAll([encodeHead(Op.write, 1, MAX + 1)]), /over the limit/);
  assert.throws(() => readAll([encodeHead(Op.write, 1, 0xffff_ffff)]), /over the limit/);
  assert.equal(readAll([encodeHead(Op.write, 1, MAX), new Uint8Array(MAX)]).length, 1);
});

test('createFrameReader() keeps silent about a frame that is not whole', () => {
  const stream = streamOf([{ op: Op.done, id: 1, payload: Uint8Array.of(1, 2) }]);
  assert.deepEqual(readAll([stream.subarray(0, HEADER_BYTES - 1)]), []);
  assert.deepEqual(readAll([stream.subarray(0, stream.length - 1)]), []);
});

test('decodeTransfer() gives what encodeTransfer() was given, and the bytes behind it', () => {
  const runs = [
    { binding: 0, byteOffset: 0, byteLength: 65_536 },
    { binding: 2047, byteOffset: 2 ** 27 - 65_536, byteLength: 1 },
  ];
  for (const piece of [0, 1023, INLINE]) {
    const inline = Uint8Array.of(9, 8, 7);
    const transfer = decodeTransfer(Buffer.concat([encodeTransfer({ piece, runs }), inline]));
    assert.equal(transfer.piece, piece);
    assert.deepEqual(transfer.runs, runs);
    assert.deepEqual(Uint8Array.from(transfer.inline), inline);
  }
  assert.deepEqual(decodeTransfer(encodeTransfer({ piece: 0, runs: [] })).runs, []);
});

test('decodeTransfer() throws at more runs than it has', () => {
  const bytes = encodeTransfer({ piece: 0, runs: [{ binding: 0, byteOffset: 0, byteLength: 1 }] });
  assert.throws(() => decodeTransfer(bytes.subarray(0, bytes.length - 1)), RangeError);
  assert.throws(() => decodeTransfer(new Uint8Array(7)), RangeError);
});

test('decodeJson() gives what encodeJson() was given', () => {
  const value = { message: 'é \n"', list: [1, null] };
  assert.deepEqual(decodeJson(encodeJson(value)), value);
});
