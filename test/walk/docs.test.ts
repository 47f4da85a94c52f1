// The Python samples of docs/http.md, run as they stand there against a real start with two adapters: each after the one of
// Signing, which has `call`. Needs python3, and nothing but its standard library.
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { promisify } from 'node:util';
import { type Blatam, ROOT, startBlatam } from '../support/blatam.ts';
import { folder } from '../support/folders.ts';

const skip = spawnSync('python3', ['--version']).status === 0 ? false : 'python3 is not installed';
const BASE = 'http://127.0.0.1:8000';
const text = readFileSync(join(ROOT, 'docs/http.md'), 'utf8');

/** The samples by the section that they stand in. */
const samples = new Map(
  text.split(/^## /m).flatMap((section) => {
    const [title = ''] = section.split('\n', 1);
    const [, sample] = /```python\n([\s\S]*?)```/.exec(section) ?? [];
    return sample === undefined ? [] : [[title, sample]];
  }),
);
const signing = samples.get('Signing') ?? '';

test('docs/http.md has one sample a section, and Signing the first', () => {
  assert.equal(samples.size, text.split('```python').length - 1);
  assert.ok(signing.includes(BASE));
  assert.deepEqual(
    [...samples.keys()],
    ['Signing', 'Batches', 'One computation', 'KV of token sequences', 'Cache and adapters'],
  );
});

describe('a sample of docs/http.md', { skip }, () => {
  let blatam: Blatam;
  let place: string;
  before(async () => {
    blatam = await startBlatam({ environment: { GPU_ADAPTERS: 'swiftshader,swiftshader' } });
  });
  after(() => blatam.stop());

  async function run(t: Parameters<typeof folder>[0], title: string): Promise<string> {
    place = folder(t);
    symlinkSync(blatam.dataDir, join(place, 'data'));
    const sample = title === 'Signing' ? signing : `${signing}\n${samples.get(title)}`;
    const { stdout } = await promisify(execFile)('python3', ['-c', sample.replaceAll(BASE, blatam.edge)], {
      cwd: place,
    });
    return stdout;
  }

  test('signs, and lists', async (t) => {
    assert.equal(await run(t, 'Signing'), '{"entries":[],"cursor":null}\n');
  });

  test('puts a batch and gets it back', async (t) => {
    const [, ...lines] = (await run(t, 'Batches')).split('\n');
    assert.deepEqual(lines, ['256 stored', 'tour/nothing 404 tensor_unknown', 'and all of them back', '']);
  });

  test('computes once for eight threads', async (t) => {
    const [, computed] = (await run(t, 'One computation')).split('\n');
    assert.equal(computed, '8 found it, computed 1 time');
  });

  test('stores KV, loads it back and attends over it', async (t) => {
    const [, stored = '', loaded = '', attended = '', ...acted] = (await run(t, 'KV of token sequences')).split('\n');
    const [, whole, kept] = /^512 tokens: (\d+) bytes kept as (\d+)$/.exec(stored) ?? [];
    assert.ok(Number(kept) > 0 && Number(kept) < Number(whole) / 2, stored);
    const [, error] = /^512 tokens back, relative squared error of K (0\.\d+)$/.exec(loaded) ?? [];
    assert.ok(Number(error) < 0.02, loaded);
    assert.match(attended, /^outputs of 4 heads: 256 numbers; log-sum-exp \[(?:\d\.\d+(?:, )?){4}\]$/);
    assert.deepEqual(acted.slice(0, 3), [
      "{'reason': 'diverges', 'at': 300, 'agreeing': 44}",
      '4 blocks pinned, 0 pins left',
      'event: BlockStored',
    ]);
  });

  test('moves a tensor, drains, resumes and checks', async (t) => {
    const [, moved = '', drained = '', resumed = '', checked = ''] = (await run(t, 'Cache and adapters')).split('\n');
    assert.match(moved, /"moved":[01],/);
    assert.match(drained, /"state":"drained"/);
    assert.match(resumed, /"adapter-1"/);
    assert.equal(checked, '{"ok":true,"faults":[]}');
  });
});
