// A lease sends its work to the link of its own adapter, and says so when there is none any more.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createArena } from '../../../core/gpu/arena.ts';
import { gpuLease, type LeaseLink } from '../../../core/gpu/gpu-lease.ts';

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
