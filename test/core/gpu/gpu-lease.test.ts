// A lease sends what it is asked to the link of its own adapter, and says so when there is none any more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createArena } from '../../../core/gpu/arena.ts';
import { gpuLease, type LeaseLink } from '../../../core/gpu/gpu-lease.ts';
import { privatePiece } from '../../../core/gpu/pieces.ts';

const never = () => Promise.reject(new Error('nothing is read or written here'));

test('run() passes work and signal on to where the pages are, range() says where that is', async () => {
  const asked: unknown[] = [];
  const link: LeaseLink = {
    arena: createArena(1),
    read: never,
    write: never,
    run: async (...request) => ({ gpuMs: asked.push(request) }),
  };
  const lease = gpuLease('a', link, { pageBytes: 512 });
  assert.ok(lease.grow(513));
  assert.deepEqual([lease.pages, lease.bytes, lease.pageBytes], [2, 513, 512]);
  assert.deepEqual(lease.range(1), { binding: 0, byteOffset: 512, byteLength: 512 });
  const { signal } = new AbortController();
  const work = { dispatches: [] };
  assert.deepEqual(await lease.run(work, { signal }), { gpuMs: 1 });
  assert.deepEqual(asked, [[work, { signal }]]);
  link.arena.lose();
  await assert.rejects(lease.run(work), { code: 'adapter_lost' });
  assert.equal(asked.length, 1);
});

test('read() and write() pass the signal on, with where the bytes lie', async () => {
  const asked: unknown[] = [];
  const note = async (...request: unknown[]) => void asked.push(request);
  const lease = gpuLease('a', { arena: createArena(1), read: note, write: note, run: never }, { pageBytes: 512 });
  assert.ok(lease.grow(700));
  const { signal } = new AbortController();
  const piece = privatePiece(new Uint8Array(188));
  await lease.read(512, piece, 188, { signal });
  await lease.write(512, piece, 188, { signal });
  const request = [piece, 188, [{ binding: 0, byteOffset: 512, byteLength: 188 }], { signal }];
  assert.deepEqual(asked, [request, request]);
});
