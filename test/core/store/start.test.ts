// What a start finds where something is missing: journal, checkpoint, metadata, packs. Real files, harmed by hand.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import type { StoredRecord } from '../../../core/store/records.ts';
import { openStore, type Store } from '../../../core/store/store.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';

const random = seeded();
const LARGE = 100_000;
const opened: Store[] = [];
after(() => Promise.all(opened.map((store) => store.close())));

async function open(path: string): Promise<{ store: Store; lines: string[] }> {
  const lines: string[] = [];
  const store = await openStore(path, (line) => lines.push(line));
  opened.push(store);
  return { store, lines };
}

interface Filled {
  readonly path: string;
  readonly model: Map<string, { record: StoredRecord; bytes: Uint8Array }>;
}

/** A closed store after some puts, replacements and removals. */
async function fill(t: TestContext): Promise<Filled> {
  t.diagnostic(`SEED=${random.seed}`);
  const path = join(folder(t), 'cache');
  const { store } = await open(path);
  const model: Filled['model'] = new Map();
  const shared = random.bytes(700);
  for (let i = 0; i < 120; i++) {
    const key = `k${random.below(40)}`;
    const held = model.get(key);
    if (held && random.below(4) === 0) {
      await store.remove(held.record);
      model.delete(key);
    } else {
      const bytes = random.below(5) === 0 ? shared : random.bytes(random.pick([0, 10, 3000, 60_000, LARGE]));
      model.set(key, { bytes, record: await putBytes(store, key, bytes) });
    }
  }
  await store.close();
  return { path, model };
}

async function assertHolds(path: string, model: Filled['model'], lost: readonly string[] = []): Promise<string[]> {
  const { store, lines } = await open(path);
  assert.deepEqual(store.lost.map(({ name }) => name).sort(), lost.map((key) => `t/${key}`).sort(), lines.join('\n'));
  const wanted = [...model.keys()].filter((key) => !lost.includes(key)).sort();
  assert.deepEqual(store.found.map(({ key }) => key).sort(), wanted);
  for (const record of store.found) {
    const expected = model.get(record.key);
    assert.deepEqual(record, expected?.record);
    assertSameBytes(await bytesUnder(store, record), expected?.bytes ?? new Uint8Array(0), record.key);
  }
  await store.close();
  return lines;
}

const packs = (path: string) => join(path, 'entries', 'packs');
const journal = (path: string) => join(path, 'journal');

const harms: readonly [name: string, harm: (path: string) => void, said: RegExp | undefined][] = [
  ['nothing', () => {}, undefined],
  ['the journal', (path) => rmSync(journal(path), { recursive: true }), undefined],
  ['metadata.json', (path) => rmSync(join(path, 'metadata.json')), /metadata\.json is gone/],
  ['half of metadata.json', (path) => truncateSync(join(path, 'metadata.json'), 30), /metadata\.json cannot be read/],
  [
    'everything but packs and payloads',
    (path) => {
      rmSync(join(path, 'metadata.json'));
      rmSync(journal(path), { recursive: true });
    },
    /metadata\.json is gone/,
  ],
];
for (const [name, harm, said] of harms)
  test(`without ${name} a start finds everything, and so does the one after it`, async (t) => {
    const { path, model } = await fill(t);
    harm(path);
    const lines = await assertHolds(path, model);
    if (said) assert.match(lines.join('\n'), said);
    else assert.deepEqual(lines, []);
    assert.deepEqual(await assertHolds(path, model), []);
  });

test('a checkpoint makes the journal short, and a start goes by both', async (t) => {
  const { path, model } = await fill(t);
  rmSync(journal(path), { recursive: true }); // a start that had to read the packs writes a checkpoint
  await assertHolds(path, model);
  assert.deepEqual(
    readdirSync(journal(path)).map((name) => name.split('.')[1]),
    ['checkpoint'],
  );
  const { store } = await open(path);
  const bytes = random.bytes(50);
  const key = [...model.keys()][0] ?? '';
  model.set(key, { bytes, record: await putBytes(store, key, bytes) });
  await store.close();
  // Packs are not read then: what they say before the checkpoint may be anything.
  assert.deepEqual(await assertHolds(path, model), []);
});

for (const [name, harm] of [
  ['gone', (file: string) => rmSync(file)],
  ['cut', (file: string) => truncateSync(file, statSync(file).size >> 1)],
  ['changed', (file: string) => changeByte(file, random.below(statSync(file).size))],
] as const)
  test(`a checkpoint that is ${name} is told, and the packs are read`, async (t) => {
    const { path, model } = await fill(t);
    rmSync(journal(path), { recursive: true });
    await assertHolds(path, model);
    const [file = ''] = readdirSync(journal(path));
    harm(join(journal(path), file));
    assert.match((await assertHolds(path, model)).join('\n'), /the last checkpoint cannot be read/);
    assert.deepEqual(await assertHolds(path, model), []);
  });

test('a journal that is cut or changed anywhere costs nothing', async (t) => {
  const { path, model } = await fill(t);
  const file = join(journal(path), readdirSync(journal(path))[0] ?? '');
  for (let round = 0; round < 12; round++) {
    if (round % 2 === 0) truncateSync(file, random.below(statSync(file).size));
    else changeByte(file, random.below(statSync(file).size));
    assert.deepEqual(
      (await assertHolds(path, model)).filter((line) => line.startsWith('lost')),
      [],
    );
    const name = readdirSync(journal(path)).find((name) => name.endsWith('.checkpoint'));
    assert.ok(name, 'a checkpoint stands for it');
    rmSync(join(path, 'metadata.json')); // the next round begins without one
    writeFileSync(file, random.bytes(1000));
  }
});

test('a pack that is gone costs what was in it, by name, and no more', async (t) => {
  const { path, model } = await fill(t);
  const [pack = ''] = readdirSync(packs(path));
  rmSync(join(packs(path), pack));
  const inPack = [...model].filter(([, { bytes }]) => bytes.length <= 65_536).map(([key]) => key);
  await assertHolds(path, model, inPack);
  for (const key of inPack) model.delete(key);
  assert.deepEqual(await assertHolds(path, model), [], 'the others were written again');
});

test('a torn end of the last pack is cut off with a line, and costs what was not answered', async (t) => {
  const { path, model } = await fill(t);
  const pack = join(packs(path), readdirSync(packs(path)).at(-1) ?? '');
  const whole = readFileSync(pack);
  rmSync(journal(path), { recursive: true });
  for (let round = 0; round < 5; round++) {
    writeFileSync(pack, Buffer.concat([whole, whole.subarray(0, 1 + random.below(40))]));
    const lines = await assertHolds(path, model);
    assert.match(lines.join('\n'), /ends in \d+ bytes that were never answered: cut off/);
    assert.equal(statSync(pack).size, whole.length);
    rmSync(journal(path), { recursive: true });
  }
});

function changeByte(file: string, at: number): void {
  const bytes = readFileSync(file);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  writeFileSync(file, bytes);
}
