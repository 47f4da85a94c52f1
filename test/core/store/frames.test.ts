// Frames, and reading them in their order: what is whole is found around what is not, and nothing that a payload holds is
// taken for a frame.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DiskFile } from '../../../core/store/disk.ts';
import { scanFrames } from '../../../core/store/frame-scan.ts';
import { encodeFrame, type FrameToWrite, readHeader, readMeta, readPayload } from '../../../core/store/frames.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const MARK = '0123456789abcdef';

const fileOf = (bytes: Buffer): DiskFile => ({
  read: async (into, position) => bytes.copy(into, 0, position, position + into.length),
  write: async () => 0,
  sync: async () => {},
  truncate: async () => {},
  close: async () => {},
});

const scan = async (bytes: Buffer, payloads: 'verify' | 'skip' = 'verify') => {
  const seqs: number[] = [];
  const take = ({ header }: { header: { seq: number } }) => seqs.push(header.seq);
  const scanned = await scanFrames({ file: fileOf(bytes), from: 0, size: bytes.length, mark: MARK, payloads, take });
  return { ...scanned, seqs };
};
const frame = (seq: number, back = 0, payload = random.bytes(random.below(500))): Buffer =>
  encodeFrame({ kind: 'payload', meta: { seq }, payload }, seq, MARK, back);

test('a frame is read as it was written', () => {
  for (const payload of [undefined, new Uint8Array(0), random.bytes(1), random.bytes(65_536)]) {
    const written: FrameToWrite = { kind: 'put', meta: { key: 'ä', n: [1, null] }, ...(payload ? { payload } : {}) };
    const bytes = encodeFrame(written, 2 ** 40 + 5, MARK, 7);
    const header = readHeader(bytes, 0, MARK);
    assert.ok(header);
    assert.deepEqual([header.kind, header.seq, header.back, header.length], ['put', 2 ** 40 + 5, 7, bytes.length]);
    assert.deepEqual(readMeta(bytes, 0, header), written.meta);
    assert.deepEqual(Uint8Array.from(readPayload(bytes, 0, header) ?? [9]), payload ?? new Uint8Array(0));
    assert.equal(readHeader(bytes, 0, 'ffffffffffffffff'), undefined, 'the mark of another store');
  }
});

test('no bit of a frame changes unnoticed', () => {
  const bytes = frame(1, 0, random.bytes(100));
  const whole = readHeader(bytes, 0, MARK);
  assert.ok(whole);
  const used = 48 + whole.metaBytes + whole.payloadBytes;
  for (let bit = 0; bit < used * 8; bit++) {
    const changed = Buffer.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    const header = readHeader(changed, 0, MARK);
    const isWhole = header && readMeta(changed, 0, header) !== undefined && readPayload(changed, 0, header);
    assert.equal(isWhole || undefined, undefined, `bit ${bit}`);
  }
});

test('scanFrames() goes on behind a hole, and says where it is', async () => {
  const frames = Array.from({ length: 50 }, (_, i) => frame(i + 1));
  const starts = frames.map((_, i) => frames.slice(0, i).reduce((sum, { length }) => sum + length, 0));
  for (let round = 0; round < 30; round++) {
    const bytes = Buffer.concat(frames);
    const hit = random.below(49);
    const from = starts[hit] ?? 0;
    bytes.fill(0x55, from, from + 48);
    const { seqs, holes, end } = await scan(bytes);
    assert.deepEqual(
      seqs,
      frames.map((_, i) => i + 1).filter((seq) => seq !== hit + 1),
    );
    assert.deepEqual(holes, [{ from, to: starts[hit + 1] }]);
    assert.equal(end, bytes.length);
  }
});

test('scanFrames() ends where the last group is torn', async () => {
  const first = [frame(1), frame(2)];
  const group = [frame(3, 0), frame(4, 0), frame(5, 0)];
  const before = Buffer.concat(first).length;
  let at = 0;
  const last = group.map((_, i) => {
    const bytes = frame(3 + i, at);
    at += bytes.length;
    return bytes;
  });
  const whole = Buffer.concat([...first, ...last]);
  assert.deepEqual((await scan(whole)).seqs, [1, 2, 3, 4, 5]);
  // a hole within it: nobody was answered
  const holed = Buffer.from(whole);
  holed[before + (last[0]?.length ?? 0) + 60] = (holed[before + (last[0]?.length ?? 0) + 60] ?? 0) ^ 1;
  assert.deepEqual(await scan(holed), { seqs: [1, 2], end: before, holes: [] });
  // cut: what is whole before it stays
  const cut = whole.subarray(0, whole.length - 9);
  assert.deepEqual(await scan(cut), { seqs: [1, 2, 3, 4], end: whole.length - (last[2]?.length ?? 0), holes: [] });
});

test('scanFrames() takes nothing that a payload holds for a frame, whatever is damaged', async () => {
  const forged = encodeFrame({ kind: 'put', meta: { tenant: 'victim' } }, 99, '1111111111111111', 0);
  const payload = Buffer.concat([...Array(20).fill(forged), Buffer.from('bllfbllf'.repeat(50))]);
  const bytes = Buffer.concat([frame(1), frame(2, 0, payload), frame(3)]);
  const hit = frame(1, 0, new Uint8Array(0)).length;
  for (let at = hit; at < bytes.length - 200; at += 101) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 16;
    const { seqs } = await scan(damaged, random.below(2) ? 'verify' : 'skip');
    assert.ok(!seqs.includes(99), `after damage at ${at}`);
  }
});
