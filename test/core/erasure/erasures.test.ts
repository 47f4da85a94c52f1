// Erasures as such: one at a time, written down before anything is removed, gone on with by the next start, and ended by a receipt
// that says what was removed where. The places here only count; real ones are in test/walk/erasures.test.ts.
import assert from 'node:assert/strict';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { canonical, isGenuine } from '../../../core/contract/erasure.ts';
import { Problem } from '../../../core/contract/problems.ts';
import { openErasures } from '../../../core/erasure/erasures.ts';
import { openReceipts } from '../../../core/erasure/receipts.ts';
import type { ErasureScope, Place } from '../../../core/erasure/scope.ts';
import { folder } from '../../support/folders.ts';

const SCOPE: ErasureScope = { tenant: 't', whole: false, prefix: 'users/alice/' };

async function open(dataDir: string, places: readonly Place[], lines: string[] = []) {
  const audit: string[] = [];
  const erasures = await openErasures({
    ...{ dataDir, places, receipts: await openReceipts(dataDir), now: () => 1_800_000_000_000 },
    alone: (work) => work(),
    audit: async ({ action, subject, detail }) => void audit.push(`${action} ${subject} ${JSON.stringify(detail)}`),
    log: (line) => lines.push(line),
  });
  return { erasures, audit };
}

const counting = (name: string, counts: Record<string, number>): Place => ({ name, erase: async () => counts });

test('an erasure asks every place in order, and its receipt says what each removed', async (t) => {
  const dataDir = folder(t);
  const asked: string[] = [];
  const place = (name: string, count: number): Place => ({
    name,
    async erase(scope) {
      assert.deepEqual(scope, SCOPE);
      asked.push(name);
      return { things: count };
    },
  });
  const { erasures, audit } = await open(dataDir, [place('a', 3), place('b', 0)]);
  const { id, done } = await erasures.begin(SCOPE, 'key-1');
  assert.equal((await erasures.find(id))?.state, 'running');
  const signed = await done;
  assert.deepEqual(asked, ['a', 'b']);
  assert.deepEqual(signed.receipt.places, { a: { things: 3 }, b: { things: 0 } });
  assert.equal(signed.receipt.what.prefixSha256?.length, 64);
  assert.equal(await isGenuine(signed), true);
  assert.deepEqual(readdirSync(join(dataDir, 'erasures')), []);
  assert.equal(statSync(join(dataDir, 'receipt-key.pem')).mode & 0o777, 0o600);
  assert.equal((await openReceipts(dataDir)).key.publicKey, signed.publicKey, 'the key stays');
  assert.deepEqual(audit, [`erasure.begun ${id} {}`, `erasure.done ${id} {}`]);
  assert.doesNotMatch(JSON.stringify([signed, audit]), /alice/, 'what was erased is not kept by its name');
  assert.equal(await erasures.find('../../etc/passwd'), undefined);
});

test('a second erasure waits for the first to end, by being refused', async (t) => {
  const waiting = Promise.withResolvers<Record<string, number>>();
  const { erasures } = await open(folder(t), [{ name: 'slow', erase: () => waiting.promise }]);
  const { done } = await erasures.begin(SCOPE, 'k');
  await assert.rejects(
    erasures.begin(SCOPE, 'k'),
    (error) => error instanceof Problem && error.code === 'erasure_busy',
  );
  waiting.resolve({});
  await done;
  await (await erasures.begin(SCOPE, 'k')).done;
});

test('what failed, or was ended, is gone on with by the next start, and counted together', async (t) => {
  const dataDir = folder(t);
  const lines: string[] = [];
  const failing: Place = {
    name: 'b',
    async erase() {
      throw new Error('the disk is away');
    },
  };
  const first = await open(dataDir, [counting('a', { things: 2 }), failing], lines);
  const { id, done } = await first.erasures.begin(SCOPE, 'k');
  await assert.rejects(done, /the disk is away/);
  assert.deepEqual(await first.erasures.find(id), { id, tenant: 't', state: 'failed', why: 'the disk is away' });
  assert.match(lines.join('\n'), /ALARM: erasure .* is not finished/);
  const second = await open(dataDir, [counting('a', { things: 1, others: 4 }), counting('b', { things: 5 })]);
  await second.erasures.finish();
  const found = await second.erasures.find(id);
  assert.deepEqual(found?.signed?.receipt.places, { a: { things: 3, others: 4 }, b: { things: 5 } });
  assert.deepEqual(readdirSync(join(dataDir, 'erasures')), []);
});

test('a server that stops leaves what is left to the next start', async (t) => {
  const dataDir = folder(t);
  const waiting = Promise.withResolvers<Record<string, number>>();
  const first = await open(dataDir, [{ name: 'a', erase: () => waiting.promise }, counting('b', {})]);
  const { id, done } = await first.erasures.begin(SCOPE, 'k');
  const closed = first.erasures.close();
  waiting.resolve({ things: 1 });
  await assert.rejects(done, (error) => error instanceof Problem && error.code === 'stopping');
  await closed;
  await assert.rejects(first.erasures.begin(SCOPE, 'k'), /stops/);
  const second = await open(dataDir, [counting('a', {}), counting('b', {})]);
  await second.erasures.finish();
  assert.equal((await second.erasures.find(id))?.state, 'done');
});

test('a note that cannot be read is told, and one that was never whole is nothing', async (t) => {
  const dataDir = folder(t);
  const lines: string[] = [];
  const { erasures } = await open(dataDir, [], lines);
  writeFileSync(join(dataDir, 'erasures', `${'0'.repeat(32)}.json`), '{"id"');
  writeFileSync(join(dataDir, 'erasures', `${'1'.repeat(32)}.json.new`), '{');
  await erasures.finish();
  assert.match(lines.join('\n'), /ALARM: .*0{32}\.json does not read as an erasure that was asked for/);
  assert.deepEqual(readdirSync(join(dataDir, 'erasures')), [`${'0'.repeat(32)}.json`]);
});

test('canonical() writes the same value the same way, and tells others apart', () => {
  assert.equal(canonical({ b: [1, { d: 'x', c: null }], a: true }), '{"a":true,"b":[1,{"c":null,"d":"x"}]}');
  assert.equal(canonical({ a: 1, gone: undefined }), canonical({ a: 1 }));
  assert.notEqual(canonical({ a: '1' }), canonical({ a: 1 }));
});
