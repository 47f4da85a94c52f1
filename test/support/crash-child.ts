// A process that works on a store until it is killed: by itself, at a named point or at one of its calls to the disk, which may have
// been done, half done or not, or from outside. It says on stdout what it found, what it is about to do, and what was answered;
// a line is out before the next step is taken. Nothing here is waited for politely.
import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { restoreBackup } from '../../core/store/backup.ts';
import { type Disk, realDisk } from '../../core/store/disk.ts';
import { openStore, type Store } from '../../core/store/store.ts';
import { bytesOf, type Death, KEYS, type Life, SIZES, SMALL_STORE } from './crash.ts';
import { seeded } from './seeded.ts';
import { bytesUnder, putBytes, recordFor } from './store.ts';

const life = JSON.parse(process.argv[2] ?? '{}') as Life;
const random = seeded(life.seed);
const say = (line: string) => void writeSync(1, `${line}\n`);
const die = () => process.kill(process.pid, 'SIGKILL');
let version = life.version;

function mortal({ at, times }: Death): Disk {
  let left = times;
  const isLast = () => (at === 'before' || at === 'after' || at === 'half') && --left === 0;
  const call =
    <A extends unknown[], R>(work: (...args: A) => Promise<R>) =>
    async (...args: A): Promise<R> => {
      const last = isLast();
      if (last && at === 'before') die();
      const done = await work(...args);
      if (last) die();
      return done;
    };
  return {
    ...realDisk,
    async open(path, how) {
      const file = await call(realDisk.open)(path, how);
      return {
        ...file,
        async write(bytes, position) {
          const last = isLast();
          if (last && at === 'before') die();
          const some = last && at === 'half' ? bytes.subarray(0, bytes.length >> 1) : bytes;
          const done = await file.write(some, position);
          if (last) die();
          return done;
        },
        sync: call(file.sync),
        truncate: call(file.truncate),
      };
    },
    rename: call(realDisk.rename),
    link: call(realDisk.link),
    remove: call(realDisk.remove),
    syncFolder: call(realDisk.syncFolder),
    reached(point) {
      if (point === at && --left === 0) die();
    },
  };
}

const disk = mortal(life.death);
const open = () => openStore(life.path, (line) => say(`log ${line}`), { disk, ...SMALL_STORE });

/** Keys of its own, so that what a writer did last is what must be there. */
async function write(store: Store, writer: number): Promise<never> {
  for (;;) {
    const key = `${writer}/${random.below(KEYS)}`;
    if (random.below(4) === 0) {
      say(`remove ${key}`);
      await store.remove(recordFor(key, new Uint8Array(0)));
      say(`removed ${key}`);
    } else {
      const mine = ++version;
      const size = random.pick(SIZES);
      say(`put ${key} ${mine} ${size}`);
      await putBytes(store, key, bytesOf(mine, size));
      say(`done ${key} ${mine} ${size}`);
    }
  }
}

/** One after the other, each from the one before. */
async function backUp(store: Store): Promise<never> {
  let before: string | undefined;
  say('put backed/up 0 100'); // a backup of nothing is an error
  await putBytes(store, 'backed/up', bytesOf(0, 100));
  say('done backed/up 0 100');
  for (let i = 0; ; i++) {
    const to = join(life.backups, `${life.version}-${i}`);
    say(`backup ${to}`);
    await store.backUp({ to, now: i, ...(before ? { before } : {}) });
    say(`backed ${to}`);
    before = to;
  }
}

if (life.work === 'restore') {
  say('open');
  for (let i = 0; ; i++) await restoreBackup(life.backups, `${life.path}-${i}`, undefined, disk);
}
const store = await open();
for (const record of store.found) {
  const bytes = await bytesUnder(store, record);
  say(`held ${record.key} ${bytes.length} ${createHash('sha256').update(bytes).digest('hex')}`);
}
for (const { name, reason } of store.lost) say(`log lost: ${name} (${reason})`);
say('open');
if (life.work === 'migrate') {
  await store.close();
  die();
}
const writers = Array.from({ length: 4 }, (_, writer) => write(store, writer));
await Promise.all(life.work === 'backup' ? [backUp(store), ...writers] : writers);
