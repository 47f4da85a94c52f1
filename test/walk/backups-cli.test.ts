// The sample of docs/operations.md on backups, run as it stands there by a shell against a real start; then a start of what it has
// restored, which has every byte, and takes the keys of the old one.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { barOf } from '../../edge/cli-backup.ts';
import { createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, ROOT, startBlatam, tensorFile } from '../support/blatam.ts';
import { assertSameBytes } from '../support/bytes.ts';
import { folder } from '../support/folders.ts';

const ENVIRONMENT = { GPU_ADAPTERS: 'swiftshader', BACKUP_EVERY_HOURS: '0' };
const text = readFileSync(join(ROOT, 'docs/operations.md'), 'utf8');
const [, section = ''] = text.split(/^## Backups$/m);
const [, sample = ''] = /```sh\n([\s\S]*?)```/.exec(section.split(/^## /m)[0] ?? '') ?? [];
const place = folder();
const files = new Map(Array.from({ length: 5 }, (_, i) => [`k/${i}`, tensorFile(i * 60_000 + 100)]));

let blatam: Blatam;
before(async () => {
  blatam = await startBlatam({ environment: ENVIRONMENT });
  symlinkSync(blatam.dataDir, join(place, 'data'));
  for (const [key, body] of files)
    assert.equal(
      (await call(adminKey(blatam.dataDir), 'PUT', `${blatam.edge}/v1/tensors/${key}`, { body })).status,
      201,
    );
});
after(() => blatam.stop());

/** As a user has it, but for where the command line lies. */
async function shell(script: string): Promise<{ stdout: string; stderr: string }> {
  const npx = `npx() { shift; '${process.execPath}' '${join(ROOT, 'edge/cli.ts')}' "$@"; }`;
  const env = { ...process.env, BLATAM_URL: blatam.edge };
  return promisify(execFile)('sh', ['-e', '-c', `${npx}\n${script}`], { cwd: place, env });
}

test('the sample of docs/operations.md runs', async () => {
  const { stdout, stderr } = await shell(sample);
  const [created = '', verified, drilled, restored, offline] = stdout.split('\n');
  const [id = ''] = created.split(':');
  assert.match(created, /^cache_\d{8}T\d{6}Z: 5 tensors, .* of .* copied in [\d.]+ s$/);
  assert.match(verified ?? '', new RegExp(`^${id} is as it was made: \\d+ files`));
  assert.equal(drilled, `${id} was restored on trial: 5 tensors read, all right`);
  assert.match(restored ?? '', new RegExp(`^${id} is restored: 5 tensors; what was there is cache_`));
  assert.match(offline ?? '', new RegExp(`^${id} is restored into .*/restored: 5 tensors. Start the server`));
  assert.equal(stderr.includes('\u001b'), false, 'no bar where there is no terminal');
});

test('what is restored into an empty folder starts with every byte, and with the keys of the old instance', async () => {
  const other = await startBlatam({ dataDir: join(place, 'restored'), environment: ENVIRONMENT });
  try {
    const key = adminKey(blatam.dataDir);
    for (const [name, file] of files) {
      const answer = await call(key, 'GET', `${other.edge}/v1/tensors/${name}`);
      assert.equal(answer.status, 200, await answer.clone().text());
      assertSameBytes(new Uint8Array(await answer.arrayBuffer()), file, name);
    }
    const client = createClient({ url: other.edge, ...key });
    const { entries } = await client.keys.audit();
    assert.ok(entries.some(({ action }) => action === 'backup.restored'));
    await assert.rejects(shell(`npx blatam backup restore data/backups/x --yes --data restored`), /in use by another/);
  } finally {
    await other.kill('SIGTERM');
  }
});

test('restored offline over what is there, that is kept; a damaged or unknown backup changes nothing', async () => {
  const id = readdirSync(join(blatam.dataDir, 'backups')).find((name) => name.startsWith('cache_')) ?? '';
  const { stdout } = await shell(`npx blatam backup restore data/backups/${id} --yes --data restored`);
  const [, kept = ''] = /what was there is in (\S+):/.exec(stdout) ?? [];
  assert.ok(existsSync(join(kept, 'metadata.json')), stdout);
  await assert.rejects(shell('npx blatam backup restore cache_20200101T000000Z --yes --data restored'), {
    code: 1,
    stderr: /There is no backup cache_20200101T000000Z/,
  });
  assert.ok(existsSync(join(place, 'restored/cache/metadata.json')));
});

test('a restore without --yes says what it would do, and an unknown backup is not held', async () => {
  await assert.rejects(shell('npx blatam backup restore cache_20200101T000000Z'), { code: 2, stderr: /say --yes/ });
  await assert.rejects(shell('npx blatam backup verify cache_20200101T000000Z'), { code: 1, stderr: /backup_unknown/ });
});

test("the client's backups tell how far they are, and what fails", async () => {
  const { backups } = createClient({ url: blatam.edge, ...adminKey(blatam.dataDir) });
  const steps = new Set<string>();
  const made = await backups.create({ told: ({ progress }) => steps.add(progress.step) });
  assert.deepEqual([made.state, made.entries, steps.size > 0], ['whole', 5, true]);
  assert.equal((await backups.get(made.id))?.id, made.id);
  assert.equal(await backups.get('cache_20200101T000000Z'), undefined);
  assert.equal((await backups.list())[0]?.id, made.id);
  await assert.rejects(backups.drill('cache_20200101T000000Z'), { code: 'backup_unknown', status: 404 });
});

test('barOf() is a bar', () => {
  assert.equal(
    barOf({ step: 'copying', files: 3, of: 4, bytes: 1536 }),
    'copying [##################......] 75 %, 3 of 4, 1.5 KiB',
  );
});
