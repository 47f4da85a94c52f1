// Moves of many parties go as one run for each adapter, direction and bound, and come to where they belong: on leases that only
// count what they are asked, and (walk, batch.test.ts) on a real adapter.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Arena, createArena } from '../../../core/gpu/arena.ts';
import { createFreight } from '../../../core/gpu/freight.ts';
import { type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import { privatePiece } from '../../../core/gpu/pieces.ts';
import { WORK_BOUNDS, type Work } from '../../../core/gpu/work.ts';

const KiB = 1 << 10;

/** An adapter that only remembers what it is asked. */
function adapter(id: string, bindings = 1) {
  const arena: Arena = createArena(bindings);
  const runs: Work[] = [];
  const alone: string[] = [];
  const fault: { error?: Error } = {};
  const lease = (bytes: number, pageBytes = 4 * KiB): GpuLease => {
    const made = gpuLease(
      id,
      {
        arena,
        write: async () => void alone.push('write'),
        read: async () => void alone.push('read'),
        async run(work) {
          runs.push(work);
          if (fault.error) throw fault.error;
          return { gpuMs: undefined };
        },
      },
      { pageBytes },
    );
    assert.ok(made.grow(bytes));
    return made;
  };
  return { arena, runs, alone, fault, lease };
}
const piece = (bytes: number) => privatePiece(new Uint8Array(bytes));

test('the last party to ask or leave sends one run for all, in one direction and to one adapter each', async () => {
  const [a, b] = [adapter('a'), adapter('b')];
  const parties = createFreight(5);
  const asked = [
    parties[0]?.write(a.lease(10 * KiB), 0, piece(10 * KiB), 10 * KiB),
    parties[1]?.read(a.lease(100), 0, piece(100), 100),
    parties[2]?.write(b.lease(5), 0, piece(5), 5),
    parties[3]?.write(a.lease(4 * KiB), 0, piece(4 * KiB), 4 * KiB),
  ];
  await new Promise(setImmediate);
  assert.equal(a.runs.length + b.runs.length, 0, 'one has not said yet');
  parties[4]?.leave();
  parties[4]?.leave();
  await Promise.all(asked);
  assert.deepEqual(
    a.runs.map(({ uploads, downloads }) => [
      uploads?.map(({ from, range }) => [from, range.size]),
      downloads?.map(({ from, range }) => [from, range.size]),
    ]),
    [
      [
        [
          [0, 10 * KiB],
          [0, 4 * KiB],
        ],
        undefined,
      ],
      [undefined, [[0, 100]]],
    ],
  );
  assert.deepEqual(
    b.runs[0]?.uploads?.map(({ range }) => range),
    [{ at: 0, offset: 0, size: 5 }],
  );
  await parties[0]?.write(a.lease(1), 0, piece(1), 1);
  assert.deepEqual(a.alone, ['write'], 'who asks again is served alone');
});

test('bytes of a tensor whose pages lie apart are taken from where they stand in it', async () => {
  const a = adapter('a');
  const first = a.lease(4 * KiB);
  const apart = a.lease(4 * KiB);
  a.lease(4 * KiB); // lies behind it
  first.release();
  assert.ok(apart.grow(10 * KiB));
  const [party] = createFreight(1);
  await party?.write(apart, 0, piece(10 * KiB), 10 * KiB);
  const moves = a.runs[0]?.uploads?.map(({ from, range }) => [from, range.offset, range.size]);
  assert.deepEqual(moves, [
    [0, 4 * KiB, 4 * KiB],
    [4 * KiB, 0, 4 * KiB],
    [8 * KiB, 12 * KiB, 2 * KiB],
  ]);
});

test('what is beyond the bounds of a run takes several', async () => {
  const a = adapter('a', 2);
  const count = 300;
  const bytes = 64 * KiB;
  const parties = createFreight(2 * count);
  await Promise.all(
    parties.map((party, i) =>
      i < count
        ? party.write(a.lease(bytes), 0, piece(bytes), bytes)
        : party.read(a.lease(bytes), 0, piece(bytes), bytes),
    ),
  );
  const sum = (moves: Work['uploads'] = []) => moves.reduce((all, { range }) => all + range.size, 0);
  assert.equal(a.runs.filter(({ uploads }) => uploads).length, Math.ceil((count * bytes) / WORK_BOUNDS.uploadBytes));
  assert.equal(
    a.runs.filter(({ downloads }) => downloads).length,
    Math.ceil((count * bytes) / WORK_BOUNDS.downloadBytes),
  );
  for (const { uploads, downloads } of a.runs) {
    assert.ok(sum(uploads) <= WORK_BOUNDS.uploadBytes);
    assert.ok(sum(downloads) <= WORK_BOUNDS.downloadBytes);
  }
  assert.equal(
    a.runs.reduce((all, { uploads, downloads }) => all + sum(uploads) + sum(downloads), 0),
    2 * count * bytes,
  );
});

test('a run that fails fails whom it carried, a lost lease itself, and nobody else', async () => {
  const [a, b, c] = [adapter('a'), adapter('b'), adapter('c')];
  const parties = createFreight(4);
  const lost = c.lease(1);
  c.arena.lose();
  a.fault.error = new Error('no');
  const asked = [a.lease(1), b.lease(1), lost, a.lease(1)].map((lease, i) => parties[i]?.write(lease, 0, piece(4), 1));
  const ended = await Promise.allSettled(asked);
  assert.deepEqual(
    ended.map(({ status }) => status),
    ['rejected', 'fulfilled', 'rejected', 'rejected'],
  );
  await assert.rejects(asked[2] ?? Promise.resolve(), { code: 'adapter_lost' });
});
