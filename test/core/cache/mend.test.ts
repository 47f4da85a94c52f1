// Damage on disk that an adapter can make good: real bytes flipped below a real store, found by the scrub, written again.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { getMany } from '../../../core/cache/batch.ts';
import type { Problem } from '../../../core/contract/problems.ts';
import { joinParts, tensorParts } from '../../../core/contract/tensors.ts';
import { PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { patience, startEngine, TENANT } from '../../support/engine.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

function flip(path: string, payload: Uint8Array): void {
  for (const entry of readdirSync(join(path, 'entries'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(payload);
    if (at < 0) continue;
    bytes[at + payload.length - 1] = (bytes[at + payload.length - 1] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    return;
  }
  assert.fail('it is nowhere on disk');
}

for (const size of [1000, 3 * PIECE_BYTES])
  test(`mend() writes what is hot to the disk again, and what is not stays damaged (${size} bytes)`, async (t) => {
    const engine = await startEngine(t);
    const bytes = fileOf(size);
    await engine.put('k', bytes);
    await engine.store.settle();
    flip(engine.path, bytes);
    await engine.store.scrub();
    await engine.store.settle();
    assert.equal(engine.store.report().faults.damaged, 1);
    assert.equal(await engine.cache.mend('somebody else', 'k'), false);
    assert.equal(await engine.cache.mend(TENANT, 'nothing'), false);
    assert.equal(await engine.cache.mend(TENANT, 'k'), true);
    await engine.store.scrub();
    assert.equal(engine.store.report().faults.damaged, 1, 'it is well');
    await engine.reopen();
    assert.equal(engine.peek('k')?.tier, 'cold');
    flip(engine.path, bytes);
    assert.equal(await engine.cache.mend(TENANT, 'k'), false, 'nobody else has it');
    await assert.rejects(async () => engine.get('k'), { code: 'record_damaged' });
    await engine.put('k', bytes);
    assertSameBytes((await engine.get('k')) ?? new Uint8Array(0), bytes, 'k');
    await engine.assertIdle();
  });

for (const size of [1000, 2 * PIECE_BYTES])
  test(`what is damaged on disk is served from where it is whole, by every way of reading, or not at all (${size} bytes)`, async (t) => {
    const heat = { path: join(folder(t), 'heat.json'), share: 1 };
    const engine = await startEngine(t, { cache: { heat } });
    const batch = async () => {
      const [one] = await getMany(engine.cache, { tenant: TENANT, keys: ['k'], bytesMax: 1 << 30, signal: patience() });
      assert.ok(one);
      return one;
    };
    const bytes = fileOf(size);
    await engine.put('k', bytes);
    await engine.store.settle();
    flip(engine.path, bytes);
    assertSameBytes((await engine.get('k')) ?? new Uint8Array(0), bytes, 'from its adapter');
    const one = await batch();
    assertSameBytes('file' in one ? one.file : new Uint8Array(0), bytes, 'in a batch');
    await engine.reopen();
    await engine.cache.warmed;
    assert.equal(engine.peek('k')?.tier, 'cold', 'what is brought ahead is compared too');
    await assert.rejects(async () => engine.get('k'), { code: 'record_damaged' });
    assert.equal(((await batch()) as Problem).code, 'record_damaged');
    assert.equal(await engine.cache.mend(TENANT, 'k'), false);
    await engine.put('other', bytes);
    assertSameBytes((await engine.get('k')) ?? new Uint8Array(0), bytes, 'from the pages of an equal one');
    await engine.store.settle();
    await engine.reopen();
    await engine.cache.warmed;
    assertSameBytes((await engine.get('k')) ?? new Uint8Array(0), bytes, 'whoever stored it again has mended it');
    await engine.assertIdle();
  });
