// The frame of a run: what goes in comes out, its bounds hold at both ends, and no bytes whatever are taken for a run
// that is none.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { INLINE } from '../../../core/gpu/frames.ts';
import { KernelError } from '../../../core/gpu/kernel-choice.ts';
import { PIECE_BYTES, Piece, privatePiece } from '../../../core/gpu/pieces.ts';
import {
  decodeWork,
  encodeWork,
  scratch,
  WORK_BOUNDS,
  WORK_BYTES_MAX,
  type Work,
  type WorkDispatch,
} from '../../../core/gpu/work.ts';
import { seeded } from '../../support/seeded.ts';

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 3000);
const isShared = (piece: Piece): boolean => piece.index >= 0;
const shared = (index: number): Piece => new Piece(index, new Uint8Array(PIECE_BYTES), () => {});
const copy: WorkDispatch = {
  kernel: 'copy',
  bindings: { source: { at: 3, offset: 256, size: 64 }, target: { at: scratch(1), offset: 0, size: 64 } },
  parameters: { words: 16 },
};
const range = (size: number, offset = 0) => ({ at: 0, offset, size });
const payloadOf = (work: Work): Uint8Array => Buffer.concat(encodeWork(work, true, isShared).parts);

test('decodeWork() gives what encodeWork() was given, and the bytes that nobody shares', () => {
  const random = seeded();
  const [a, b] = [random.bytes(7), random.bytes(100)];
  const back = privatePiece(new Uint8Array(64));
  const work: Work = {
    uploads: [
      { piece: privatePiece(a), from: 0, range: range(7) },
      { piece: shared(5), from: 128, range: range(13, 256) },
      { piece: privatePiece(b), from: 4, range: range(90, 512) },
    ],
    dispatches: [copy, { ...copy, variant: 'beside', tuning: { PER: 2 } }],
    downloads: [
      { piece: back, from: 8, range: { at: scratch(1), offset: 0, size: 50 } },
      { piece: shared(6), from: 0, range: range(1) },
    ],
  };
  const { places, bytes } = encodeWork(work, true, isShared);
  assert.equal(bytes, 7 + 13 + 90 + 50 + 1);
  assert.deepEqual(
    places.map(({ buffer, byteOffset, length }) => [buffer === back.bytes.buffer, byteOffset, length]),
    [[true, 8, 50]],
  );
  const found = decodeWork(payloadOf(work));
  assert.equal(found.timed, true);
  assert.deepEqual(JSON.parse(JSON.stringify(found.dispatches)), JSON.parse(JSON.stringify(work.dispatches)));
  assert.deepEqual(
    found.uploads.map(({ piece, from }) => [piece, from]),
    [
      [INLINE, 0],
      [5, 128],
      [INLINE, 8],
    ],
  );
  assert.deepEqual(found.downloads[0], { piece: INLINE, from: 0, range: { at: scratch(1), offset: 0, size: 50 } });
  assert.deepEqual(Uint8Array.from(found.inline.subarray(0, 7)), a);
  assert.deepEqual(Uint8Array.from(found.inline.subarray(8, 98)), b.subarray(4, 94));
});

test('encodeWork() refuses what exceeds a bound, and takes what is at it', () => {
  const piece = shared(0);
  const up = (size: number) => ({ piece, from: 0, range: range(size) });
  const refuses = (work: Work, message: RegExp) =>
    assert.throws(
      () => encodeWork(work, false, isShared),
      (e) => e instanceof KernelError && message.test(e.message),
    );
  const many = (count: number) => Array.from({ length: count }, () => copy);
  refuses({ dispatches: many(WORK_BOUNDS.dispatches + 1) }, /1025 dispatches; 1024 at most, make it several runs/);
  refuses({ downloads: [up(PIECE_BYTES), up(1)] }, /4194308 bytes to download; 4194304 at most/);
  refuses({ uploads: [...Array(4).fill(up(PIECE_BYTES)), up(1)] }, /16777217 bytes to upload; 16777216 at most/);
  refuses({ downloads: Array(4097).fill(up(4)) }, /4097 downloads; 4096 at most/);
  refuses({ dispatches: many(1000).map((d) => ({ ...d, variant: 'x'.repeat(2000) })) }, /is described in \d+ bytes/);
  refuses({ uploads: [{ piece, from: 2, range: range(4) }] }, /begin at words, inside it/);
  refuses({ uploads: [{ piece, from: PIECE_BYTES - 4, range: range(8) }] }, /begin at words, inside it/);
  refuses({ downloads: [{ piece: privatePiece(new Uint8Array(8)), from: 0, range: range(9) }] }, /a piece of 8/);
  const full: Work = {
    dispatches: many(WORK_BOUNDS.dispatches),
    uploads: Array.from({ length: 4 }, () => ({ ...up(PIECE_BYTES), piece: privatePiece(piece.bytes) })),
    downloads: [up(PIECE_BYTES)],
  };
  assert.ok(payloadOf(full).length <= WORK_BYTES_MAX);
  assert.equal(decodeWork(payloadOf(full)).dispatches.length, WORK_BOUNDS.dispatches);
});

test('decodeWork() gives work within its bounds or throws a KernelError, whatever the bytes', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const good = payloadOf({
    uploads: [{ piece: privatePiece(random.bytes(40)), from: 0, range: range(40) }],
    dispatches: [copy],
    downloads: [{ piece: shared(1), from: 0, range: range(8) }],
  });
  let taken = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = Uint8Array.from(
      good.subarray(0, random.below(4) === 0 ? random.below(good.length + 1) : good.length),
    );
    for (let n = random.below(5); n > 0; n--)
      bytes[random.below(bytes.length)] = random.pick([0x2d, 0x39, 0x22, random.below(256)]);
    try {
      const { uploads, dispatches, downloads } = decodeWork(bytes);
      for (const { range: at, from } of [...uploads, ...downloads])
        for (const n of [at.at, at.offset, at.size, from]) assert.ok(Number.isSafeInteger(n) && n >= 0);
      for (const { bindings, parameters } of dispatches) {
        for (const value of Object.values(parameters)) assert.equal(typeof value, 'number');
        for (const at of Object.values(bindings)) assert.ok(Number.isSafeInteger(at.offset + at.size + at.at));
      }
      taken++;
    } catch (error) {
      assert.ok(error instanceof KernelError, String(error));
    }
  }
  assert.ok(taken > 0 && taken < ROUNDS);
});

test('decodeWork() says what is malformed', () => {
  const frame = (description: unknown, inline = 0) => {
    const json = new TextEncoder().encode(JSON.stringify(description));
    const length = new Uint8Array(Uint32Array.of(json.length).buffer);
    return Buffer.concat([length, json, new Uint8Array(inline)]);
  };
  const none = { up: [], dispatches: [], down: [] };
  const says = (description: unknown, message: RegExp) =>
    assert.throws(() => decodeWork(frame(description)), { message });
  assert.deepEqual(decodeWork(frame(none)).uploads, []);
  assert.throws(() => decodeWork(new Uint8Array(3)), /its description is cut/);
  assert.throws(() => decodeWork(Uint8Array.of(9, 0, 0, 0, 1)), /its description is cut/);
  assert.throws(() => decodeWork(Uint8Array.of(1, 0, 0, 0, 0x7b)), /no JSON/);
  says([], /it is no object/);
  says({ ...none, up: undefined }, /its uploads are no list/);
  says({ ...none, up: [[INLINE, 0, 0, 0, 4]] }, /bytes of an upload are missing/);
  says({ ...none, up: [[0, 0, 0, 2, 4]] }, /begins at words/);
  says({ ...none, down: [[0, 0, 0, -4, 4]] }, /whole numbers/);
  for (const size of [2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER])
    says({ ...none, down: [[0, 0, 0, 0, size]] }, /bytes to download; 4194304 at most/);
  says({ ...none, dispatches: [{ kernel: 7 }] }, /names no kernel/);
  says({ ...none, dispatches: [{ ...copy, parameters: { words: '1' } }] }, /copy: words is no number/);
  says({ ...none, dispatches: [{ ...copy, constants: [] }] }, /is no object/);
  says({ ...none, dispatches: [{ ...copy, bindings: { source: { at: 0, offset: 0.5, size: 1 } } }] }, /whole numbers/);
});
