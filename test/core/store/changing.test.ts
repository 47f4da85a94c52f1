// Another store in the place of one that is used: what is under way is waited for or cut, what comes meanwhile is refused, and if the
// other does not open, nothing has changed.
import assert from 'node:assert/strict';
import { readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openChangingStore } from '../../../core/store/changing.ts';
import { openStore } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes, recordFor } from '../../support/store.ts';

const random = seeded();

/** Two stores: the one that is served, and another beside it. */
async function world(t: TestContext, patienceMs: number) {
  const base = folder(t);
  const [path, beside, before] = [join(base, 'cache'), join(base, 'other'), join(base, 'before')];
  const other = await openStore(beside, () => {});
  const bytes = random.bytes(100_000);
  const record = await putBytes(other, 'k', bytes);
  await other.close();
  let opens = true;
  const store = await openChangingStore(async () => {
    if (opens) return openStore(path, () => {});
    opens = true;
    throw new Error('does not open');
  }, patienceMs);
  t.after(() => store.close());
  const change = async () => {
    renameSync(path, before);
    renameSync(beside, path);
    return async () => {
      renameSync(path, beside);
      renameSync(before, path);
    };
  };
  const failNext = () => {
    opens = false;
  };
  return { path, store, change, record, bytes, failNext };
}

test('change() puts the other in its place, and who comes meanwhile is refused', async (t) => {
  const { store, change, record, bytes } = await world(t, 10_000);
  const mine = await putBytes(store, 'mine', random.bytes(100_000));
  const refusals: Promise<unknown>[] = [];
  let told = 0;
  const changing = store.change(
    async () => {
      for (const refused of [store.begin(false), store.open(mine), store.remove(mine)])
        refusals.push(assert.rejects(refused, { code: 'restoring' }));
      store.distrust(mine);
      return change();
    },
    () => {
      told = store.found.length;
    },
  );
  await assert.rejects(
    store.change(change, () => {}),
    { code: 'restoring' },
  );
  await changing;
  await Promise.all(refusals);
  assert.deepEqual([told, refusals.length], [1, 3]);
  assertSameBytes(await bytesUnder(store, record), bytes, 'the other');
  await assert.rejects(store.open(mine), { code: 'record_damaged' });
  await putBytes(store, 'new', random.bytes(1000));
});

test('an upload under way is waited for', async (t) => {
  const { store, change } = await world(t, 60_000);
  const writer = await store.begin(false);
  const bytes = random.bytes(200_000);
  await writer.write(bytes, 100_000, 0);
  let isOver = false;
  const changing = store
    .change(change, () => {})
    .then(() => {
      isOver = true;
    });
  await writer.write(bytes.subarray(100_000), 100_000, 100_000);
  assert.equal(isOver, false);
  await writer.commit(recordFor('slow', bytes));
  await changing;
});

test('an upload that takes too long is cut, and touches nothing of the other', async (t) => {
  const { path, store, change, record, bytes } = await world(t, 1);
  const writer = await store.begin(false);
  await writer.write(random.bytes(100_000), 100_000, 0);
  await store.change(change, () => {});
  const next = await store.begin(false); // it may have the same name on disk
  const other = random.bytes(100_000);
  await next.write(other, 100_000, 0);
  await assert.rejects(writer.write(random.bytes(10), 10, 0), { code: 'restoring' });
  await assert.rejects(writer.commit(recordFor('cut', random.bytes(100_000))), { code: 'restoring' });
  await writer.abort();
  assert.equal(readdirSync(join(path, 'incoming')).length, 1);
  const kept = recordFor('next', other);
  await next.commit(kept);
  assertSameBytes(await bytesUnder(store, kept), other, 'next');
  assertSameBytes(await bytesUnder(store, record), bytes, 'the other');
});

test('a reader finishes on what it has opened', async (t) => {
  const { store, change } = await world(t, 1000);
  const bytes = random.bytes(200_000);
  const reader = await store.open(await putBytes(store, 'mine', bytes));
  await store.change(change, () => {});
  const into = new Uint8Array(bytes.length);
  await reader.read(into, 0);
  await reader.close();
  assertSameBytes(into, bytes, 'the old one');
});

test('where the other does not open, the first is served again', async (t) => {
  const { store, change, failNext } = await world(t, 1000);
  const bytes = random.bytes(100_000);
  const mine = await putBytes(store, 'mine', bytes);
  failNext();
  await assert.rejects(
    store.change(change, () => assert.fail('told')),
    /does not open/,
  );
  assertSameBytes(await bytesUnder(store, mine), bytes, 'mine');
  await putBytes(store, 'more', random.bytes(10));
});

test('where not even the first can be put back, nothing is asked of either', async (t) => {
  const { store, change, record, failNext, path } = await world(t, 1000);
  failNext();
  const failing = async () => {
    await change();
    return async () => {
      throw new Error('the disk is away');
    };
  };
  await assert.rejects(
    store.change(failing, () => assert.fail('told')),
    /the disk is away/,
  );
  const before = readdirSync(path, { recursive: true }).sort();
  await assert.rejects(putBytes(store, 'new', random.bytes(100)), { code: 'restoring' });
  await assert.rejects(store.remove(record), { code: 'restoring' });
  assert.deepEqual(readdirSync(path, { recursive: true }).sort(), before);
});
