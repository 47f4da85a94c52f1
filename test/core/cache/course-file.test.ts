// What a call has chosen outlives a restart, and gives way to settings that were changed.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { type Course, DEFAULT_COURSE } from '../../../core/cache/course.ts';
import { openCourseFile } from '../../../core/cache/course-file.ts';
import { startEngine, TENANT } from '../../support/engine.ts';
import { folder } from '../../support/folders.ts';

const LFU: Course = { strategy: 'lfu', objective: 'bytes', adjustEvery: 500 };

test('a course that was chosen is there with the next start, until the settings say something new', async (t) => {
  const path = join(folder(t), 'policy.json');
  const lines: string[] = [];
  const open = (course: Course) => openCourseFile(path, course, (line) => lines.push(line));
  let file = await open(LFU);
  assert.deepEqual(file.course, LFU);
  file.keep({ strategy: 'lru' });
  file.keep({ objective: 'cost' });
  await file.close();
  file = await open(LFU);
  assert.deepEqual(file.course, { strategy: 'lru', objective: 'cost', adjustEvery: 500 });
  assert.match(lines.join(), /serves by lru for cost, as a call has chosen/);
  assert.deepEqual((await open({ ...LFU, adjustEvery: undefined })).course.strategy, 'lru');
  assert.deepEqual((await open(DEFAULT_COURSE)).course, DEFAULT_COURSE, 'the settings were changed');
  for (const text of ['', '{', '{"format":2}', '{"format":1,"chosen":{"strategy":"fifo"}}']) {
    writeFileSync(path, text);
    assert.deepEqual((await open(LFU)).course, LFU);
  }
  rmSync(path);
  mkdirSync(path);
  file = await open(LFU);
  file.keep({ strategy: 'lru' });
  await file.close();
  assert.match(lines.join(), /cannot be written/);
});

test('setPolicy() tells of what was chosen', async (t) => {
  const chosen: unknown[] = [];
  const engine = await startEngine(t, { cache: { chosen: (next) => chosen.push(next) } });
  engine.cache.setPolicy({ strategy: 'lru' });
  engine.cache.setPolicy({ objective: 'bytes' });
  assert.deepEqual(chosen, [{ strategy: 'lru' }, { objective: 'bytes' }]);
  assert.equal(engine.cache.policy(TENANT).strategy, 'lru');
});
