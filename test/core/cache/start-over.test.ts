// The cache when another store has taken the place of its own: what is held is what that has, readers finish on what they began
// with, pages go with the last of them, and uploads that began before count for nothing after.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLedger } from '../../../core/cache/ledger.ts';
import { tensorFile } from '../../support/blatam.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { patience, startEngine, TENANT } from '../../support/engine.ts';

test('startOver() holds what the store has, cold, and lets readers finish', async (t) => {
  const engine = await startEngine(t);
  const [kept, gone] = [tensorFile(9 << 20), tensorFile(3000)];
  await engine.put('kept', kept);
  await engine.reopen(); // the store tells what it found
  await engine.get('kept'); // to the adapter
  await engine.put('gone', gone, { durability: 'none' });
  assert.equal(engine.peek('kept')?.tier, 'hot');
  const reading = engine.cache.get(TENANT, 'kept')?.read(patience()) ?? assert.fail('not held');
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of reading) {
    if (parts.length === 0) engine.cache.startOver();
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  assertSameBytes(Buffer.concat(parts), kept, 'read across');
  assert.equal(engine.peek('gone'), undefined);
  assert.equal(engine.peek('kept')?.tier, 'cold');
  assertSameBytes((await engine.get('kept')) ?? assert.fail('not held'), kept, 'kept');
  await engine.assertIdle();
});

test('clear() of the ledger: an upload that began before gives nothing back after', async () => {
  const writer = { write: async () => {}, commit: async () => ({ deduplicated: false }), abort: async () => {} };
  const ledger = createLedger({
    store: { remove: async () => {} },
    begin: async () => writer,
    shelf: undefined,
    bytesMax: 100,
  });
  const before = await ledger.begin({ tenant: 't', id: 'a' }, 60, false);
  ledger.clear();
  const after = await ledger.begin({ tenant: 't', id: 'b' }, 60, false);
  await before.abort();
  assert.equal(ledger.bytesOf('t'), 60);
  await after.abort();
  assert.equal(ledger.bytesOf('t'), 0);
});
