// An upgrade from the format before, as an earlier version wrote it: it brings everything along, fails without a trace wherever it
// fails, and goes on or begins anew wherever it was killed.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { openStore } from '../../../core/store/store.ts';
import { assertSettled, readJournal } from '../../../core/upgrade/journal.ts';
import { goBack, plan, type UpgradeOptions, upgrade } from '../../../core/upgrade/upgrade.ts';
import { openDatabase } from '../../../db/client.ts';
import { lockFolder } from '../../../db/folder-lock.ts';
import { countKeys, ensureTenant, insertKey } from '../../../db/keys.ts';
import { folder } from '../../support/folders.ts';
import { bytesUnder, putBytes } from '../../support/store.ts';

const run = promisify(execFile);
const pathOf = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const FIXTURE = pathOf('../../fixtures/store-format-1');
const CHILD = pathOf('./upgrade-child.ts');
const CLI = pathOf('../../../edge/cli.ts');
const ENTRIES = 7;
const POINTS = [
  ...['check', 'copy', 'configure', 'migrate', 'verify', 'exchange'].flatMap((name) => [
    `${name} begun`,
    `${name} done`,
  ]),
  ...['cache is aside', 'cache is exchanged'],
];

function dataFolder(t: TestContext): string {
  const path = folder(t);
  cpSync(FIXTURE, join(path, 'cache'), { recursive: true });
  return path;
}

const optionsFor = (dataDir: string, more: Partial<UpgradeOptions> = {}): UpgradeOptions => ({
  ...{ dataDir, program: 'test', environment: {}, say: () => {} },
  ...more,
});

/** Every file with what is in it, but for what tells of upgrades. */
function filesOf(path: string): Record<string, string> {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const all = files.map(({ parentPath, name }) => join(parentPath, name)).sort();
  return Object.fromEntries(
    all
      .filter((file) => !file.endsWith('upgrade.json'))
      .map((file) => [file.slice(path.length), createHash('sha256').update(readFileSync(file)).digest('hex')]),
  );
}

async function assertHoldsAll(dataDir: string): Promise<void> {
  const store = await openStore(join(dataDir, 'cache'), () => {});
  assert.deepEqual(store.lost, []);
  assert.equal(store.found.length, ENTRIES);
  for (const record of store.found) {
    const bytes = await bytesUnder(store, record);
    assert.equal(createHash('sha256').update(bytes).digest('hex'), record.digest, record.key);
  }
  await store.close();
}

test('upgrade() brings format 1 along, keeps what was there, and goBack() returns to it', async (t) => {
  const dataDir = dataFolder(t);
  const lines: string[] = [];
  const shown = new Set<string>();
  await upgrade(optionsFor(dataDir, { say: (line) => lines.push(line), passed: (step) => shown.add(step) }));
  assert.match(lines.join('\n'), /verified: 7 entries; 7 read/);
  assert.match(lines.at(-1) ?? '', /kept in .*upgrade\/before: npx blatam upgrade --back/);
  assert.ok(shown.has('copy') && shown.has('verify'));
  assert.equal((await readJournal(dataDir))?.state, 'done');
  assert.deepEqual(filesOf(join(dataDir, 'upgrade/before/cache')), filesOf(FIXTURE));
  await assertHoldsAll(dataDir);
  const later = await openStore(join(dataDir, 'cache'), () => {});
  await putBytes(later, 'later', new Uint8Array(10));
  await later.close();
  await goBack(optionsFor(dataDir));
  assert.deepEqual(filesOf(join(dataDir, 'cache')), filesOf(FIXTURE));
  const after = await openStore(join(dataDir, 'upgrade/after/cache'), () => {});
  assert.equal(after.found.length, ENTRIES + 1, 'what was written since is kept');
  await after.close();
  await assert.rejects(goBack(optionsFor(dataDir)), /there is no upgrade .* to go back from/);
  await upgrade(optionsFor(dataDir, { isQuick: true }));
  await assertHoldsAll(dataDir);
  await upgrade(optionsFor(dataDir)); // and again, with nothing to migrate
  await assertHoldsAll(dataDir);
});

test('an upgrade passes all of its points, in order', async (t) => {
  const points: string[] = [];
  await upgrade(optionsFor(dataFolder(t), { reached: (point) => points.push(point) }));
  assert.deepEqual(points.toSorted(), POINTS.toSorted());
});

for (const point of POINTS)
  test(`an upgrade that fails at "${point}" leaves everything as it was`, async (t) => {
    const dataDir = dataFolder(t);
    const settingsFile = join(dataDir, 'blatam.env');
    writeFileSync(settingsFile, 'OLD_NAME=5\n');
    const before = filesOf(dataDir);
    const options = optionsFor(dataDir, {
      ...{ settingsFile, renamed: { OLD_NAME: 'GPU_PIECES' } },
      reached(at) {
        if (at === point) throw new Error('injected');
      },
    });
    await assert.rejects(upgrade(options), /^Error: injected\. (?:Nothing was changed|Everything is as it was)\.$/);
    assert.deepEqual(filesOf(dataDir), before);
    const journal = await readJournal(dataDir);
    assert.equal(journal?.state, 'rolled back');
    assert.equal(journal?.failure, 'injected.');
  });

/** After a step has ended is where the next begins. */
const KILLED_AT = POINTS.filter((point) => !point.endsWith('done') || point === 'exchange done');
for (const point of KILLED_AT)
  test(`an upgrade that is killed at "${point}" is begun anew, or goes on`, async (t) => {
    const dataDir = dataFolder(t);
    await assert.rejects(run(process.execPath, [CHILD, dataDir, point]), { signal: 'SIGKILL' });
    const isHalf = ['exchange begun', 'cache is aside', 'cache is exchanged', 'exchange done'].includes(point);
    if (isHalf) await assert.rejects(assertSettled(dataDir), /was interrupted: run npx blatam upgrade again/);
    else {
      await assertSettled(dataDir);
      assert.deepEqual(filesOf(join(dataDir, 'cache')), filesOf(FIXTURE));
    }
    await upgrade(optionsFor(dataDir));
    await assertSettled(dataDir);
    await assertHoldsAll(dataDir);
    assert.deepEqual(filesOf(join(dataDir, 'upgrade/before/cache')), filesOf(FIXTURE));
  });

for (const point of ['back begun', 'cache is aside', 'cache is exchanged'])
  test(`a return that is killed at "${point}" goes on`, async (t) => {
    const dataDir = dataFolder(t);
    await upgrade(optionsFor(dataDir));
    await assert.rejects(run(process.execPath, [CHILD, dataDir, point, 'back']), { signal: 'SIGKILL' });
    await assert.rejects(assertSettled(dataDir), /interrupted/);
    await goBack(optionsFor(dataDir));
    assert.deepEqual(filesOf(join(dataDir, 'cache')), filesOf(FIXTURE));
  });

test('a newer format is refused with one line', async (t) => {
  const dataDir = dataFolder(t);
  writeFileSync(join(dataDir, 'cache/metadata.json'), '{"format":9}');
  const before = filesOf(dataDir);
  await assert.rejects(
    upgrade(optionsFor(dataDir)),
    /says format 9; this Blatam reads formats up to 2\. Use the version that wrote it\. Nothing was changed\.$/,
  );
  assert.deepEqual(filesOf(dataDir), before);
  mkdirSync(join(dataDir, 'postgres'));
  writeFileSync(join(dataDir, 'postgres/PG_VERSION'), '17\n');
  writeFileSync(join(dataDir, 'cache/metadata.json'), '{"format":1}');
  await assert.rejects(upgrade(optionsFor(dataDir)), /was written by PostgreSQL 17, this Blatam brings 18/);
  await assert.rejects(upgrade(optionsFor(folder(t))), /holds nothing to upgrade/);
  renameSync(join(dataDir, 'cache'), join(dataDir, 'cache.restored'));
  await assert.rejects(upgrade(optionsFor(dataDir)), /a restore of .* was cut: start the instance once/);
});

test('what was damaged before stops an upgrade, by name, unless it goes on without', async (t) => {
  const dataDir = dataFolder(t);
  const [shard = ''] = readdirSync(join(dataDir, 'cache/entries')).filter((name) => name === 'e5');
  const [file = ''] = readdirSync(join(dataDir, 'cache/entries', shard));
  const path = join(dataDir, 'cache/entries', shard, file);
  const bytes = readFileSync(path);
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1;
  writeFileSync(path, bytes);
  await assert.rejects(upgrade(optionsFor(dataDir)), /1 entries are damaged: tenant\/large .*--without-damaged/);
  await upgrade(optionsFor(dataDir, { isWithoutDamaged: true }));
  assert.equal((await readJournal(dataDir))?.state, 'done');
});

test('a file of settings is rewritten with it, and back with it', async (t) => {
  const dataDir = dataFolder(t);
  const settingsFile = join(dataDir, 'blatam.env');
  const text = '# pieces\nexport OLD_NAME="40" \nHOST=127.0.0.1\n';
  writeFileSync(settingsFile, text);
  const lines: string[] = [];
  const options = optionsFor(dataDir, {
    ...{ settingsFile, renamed: { OLD_NAME: 'GPU_PIECES', ELSE: 'HOST' } },
    ...{ environment: { OLD_NAME: '40', ELSE: '127.0.0.1' }, say: (line: string) => lines.push(line) },
  });
  assert.match(
    (await plan(options)).join('\n'),
    /ELSE is HOST now: change it where it is set; OLD_NAME is GPU_PIECES now/,
  );
  assert.equal(existsSync(join(dataDir, 'upgrade')), false);
  await upgrade(options);
  assert.equal(readFileSync(settingsFile, 'utf8'), text.replace('OLD_NAME', 'GPU_PIECES'));
  assert.match(lines.join('\n'), /configured: ELSE is HOST now/);
  await goBack(options);
  assert.equal(readFileSync(settingsFile, 'utf8'), text);
  await assert.rejects(
    upgrade({ ...options, environment: { OLD_NAME: 'many' } }),
    /GPU_PIECES=many: must be a whole number.*Nothing was changed/,
  );
});

test('blatam upgrade takes the bundled database along, and is refused while the instance runs', async (t) => {
  const dataDir = dataFolder(t);
  const database = await openDatabase({ dataDir, log: () => {} });
  await ensureTenant(database.query, { id: 'acme', name: 'Acme' });
  await insertKey(database.query, { keyid: 'k', tenant: 'acme', sealedSecret: Buffer.alloc(9), scopes: [] });
  await database.close();
  const lock = await lockFolder(dataDir, 'core');
  const refused = (args: Promise<unknown>): Promise<string> =>
    args.then(
      () => assert.fail('it was done'),
      (error: { stderr: string }) => error.stderr,
    );
  const blatam = (...more: string[]) => run(process.execPath, [CLI, 'upgrade', '--data', dataDir, ...more]);
  assert.match(await refused(blatam()), /^blatam: upgrade: .*in use by another process that runs Blatam/);
  await lock.release();
  assert.match((await blatam('--dry-run')).stdout, /would migrate: the store to format 2/);
  await blatam();
  await assertHoldsAll(dataDir);
  const keysIn = async (path: string): Promise<number> => {
    const opened = await openDatabase({ dataDir: path, log: () => {} });
    return countKeys(opened.query).finally(() => opened.close());
  };
  assert.equal(await keysIn(dataDir), 1);
  await blatam('--back');
  assert.equal(await keysIn(dataDir), 1);
  assert.deepEqual(filesOf(join(dataDir, 'cache')), filesOf(FIXTURE));
  assert.match(await refused(blatam('--nonsense')), /--nonsense/);
});
