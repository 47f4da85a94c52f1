// Which backups go, when something is due, and what backups are called.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Backup } from '../../../core/backups/catalogue.ts';
import { nameAt, timeOf } from '../../../core/backups/names.ts';
import { due, surplus } from '../../../core/backups/retention.ts';
import { seeded } from '../../support/seeded.ts';

const HOUR = 3_600_000;
const NOW = Date.UTC(2026, 10, 20, 19, 30);

const backup = (hoursOld: number, state: Backup['state'] = 'whole', drilledHoursAgo?: number): Backup => ({
  ...{ id: nameAt(NOW - hoursOld * HOUR), atMs: NOW - hoursOld * HOUR, state, entries: 1, bytes: 1, files: 1 },
  ...{ reason: 'asked', by: 'me', faults: [] },
  ...(drilledHoursAgo === undefined ? {} : { drilled: { atMs: NOW - drilledHoursAgo * HOUR, faults: [] } }),
});
const ages = (ids: string[]) => ids.map((id) => (NOW - (timeOf(id) ?? 0)) / HOUR).sort((a, b) => a - b);

test('nameAt() is the second in UTC, timeOf() its way back, and nothing else is a name', () => {
  assert.equal(nameAt(NOW + 999), 'cache_20261120T193000Z');
  assert.equal(timeOf('cache_20261120T193000Z'), NOW);
  for (const name of ['cache_20261320T193000Z', 'cache_20261120T193000', '../cache_20261120T193000Z', 'drill', ''])
    assert.equal(timeOf(name), undefined, name);
});

test('surplus() keeps by count and by age', () => {
  const all = [1, 2, 3, 30, 60].map((hours) => backup(hours));
  assert.deepEqual(ages(surplus(all, { count: 3, days: 30 }, NOW)), [30, 60]);
  assert.deepEqual(ages(surplus(all, { count: 10, days: 1 }, NOW)), [30, 60]);
});

test('surplus() never takes the newest that is whole, nor one that is being made', () => {
  const random = seeded();
  for (let round = 0; round < 500; round++) {
    const all = Array.from({ length: random.below(8) }, (_, i) =>
      backup(1 + i * 20 + random.below(20), random.pick(['whole', 'damaged', 'unfinished'])),
    );
    const gone = new Set(surplus(all, { count: 1 + random.below(4), days: 1 + random.below(3) }, NOW));
    const newest = all.find(({ state }) => state === 'whole');
    assert.ok(!newest || !gone.has(newest.id), `SEED=${random.seed} round ${round}`);
    assert.ok(all.every(({ id, state }) => state !== 'unfinished' || !gone.has(id)));
  }
});

test('due() asks for a backup when the newest is old, then for a drill of it, and waits after a failure', () => {
  const schedule = { everyHours: 24, drillEveryHours: 168 };
  assert.equal(due(undefined, {}, schedule, NOW), 'backup');
  assert.equal(due(undefined, { backupMs: NOW - HOUR / 10 }, schedule, NOW), undefined);
  assert.equal(due(undefined, { backupMs: NOW - HOUR }, schedule, NOW), 'backup');
  assert.equal(due(backup(25), {}, schedule, NOW), 'backup');
  assert.equal(due(backup(23), {}, schedule, NOW), 'drill');
  assert.equal(due(backup(23, 'whole', 100), {}, schedule, NOW), undefined);
  assert.equal(due(backup(23, 'whole', 169), { drillMs: NOW - HOUR / 10 }, schedule, NOW), undefined);
  assert.equal(due(backup(1000), {}, { everyHours: 0, drillEveryHours: 0 }, NOW), undefined);
});
