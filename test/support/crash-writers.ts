// The life of writers, cut short again and again: see lives.ts. What was answered is there, bit by bit; what was not is old or new.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { openStore } from '../../core/store/store.ts';
import { SMALL_STORE } from './crash.ts';
import { folder } from './folders.ts';
import { contents, deathOf, type Expected, live, named, rounds, settleExpected } from './lives.ts';

const POINTS = [
  ...['group written', 'group synced', 'payload renamed', 'checkpoint written'],
  ...['compaction written', 'compaction renamed', 'compaction known', 'compaction removed'],
] as const;
const PARTS = 5;

export function crashWriters(part: number): void {
  test('every answered write survives SIGKILL at any point, of the start too', async (t) => {
    const path = join(folder(t), 'cache');
    const expected: Expected = new Map();
    let version = 0;
    let answered = 0;
    await rounds(t, { share: 0.7 / PARTS, part }, async (round, random) => {
      const death = deathOf(random, round, POINTS, 300);
      const life = { work: 'write', path, death, seed: random.below(2 ** 31), version, backups: '' } as const;
      const lived = await live(life, expected);
      version = lived.version;
      answered += lived.answered;
      return named(death, lived);
    });
    const store = await openStore(path, () => {}, SMALL_STORE);
    settleExpected(expected, await contents(store), 'at the end');
    await store.close();
    t.diagnostic(`${answered} writes were answered`);
    assert.ok(answered > 0, 'the writers got something done');
  });
}
