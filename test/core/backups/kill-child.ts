// A process that backs up and restores until it is killed, by a point that it comes to or from outside. Each state is one
// version under every key, so that a mix can be told; it says on stdout what it is about to do, and what was done.
import { writeSync } from 'node:fs';
import { realDisk } from '../../../core/store/disk.ts';
import { ME, openWorld } from '../../support/backups.ts';
import { bytesOf, KEYS, SIZES } from '../../support/crash.ts';
import { seeded } from '../../support/seeded.ts';
import { putBytes } from '../../support/store.ts';

const [dataDir = '', point = '', passes = '1', from = '0'] = process.argv.slice(2);
const random = seeded();
let left = Number(passes);
const disk = {
  ...realDisk,
  reached(at: string) {
    if (at === point && --left <= 0) process.kill(process.pid, 'SIGKILL');
  },
};
const say = (line: string) => void writeSync(1, `${line}\n`);

const { store, backups } = await openWorld(dataDir, {
  disk,
  keep: 4,
  clock: {
    get now() {
      return Date.now();
    },
  },
});
say('open');
const made: string[] = [];

async function write(version: number): Promise<void> {
  say(`put ${version}`);
  for (let i = 0; i < KEYS; i++) await putBytes(store, `k${i}`, bytesOf(version, SIZES[i % SIZES.length] ?? 0));
  say(`state ${version}`);
}

for (let version = Number(from) + 3; ; version += 6) {
  await write(version);
  const { id, ended } = await backups.create(ME);
  await ended;
  say(`backed ${id} ${version}`);
  made.push(id);
  await write(version + 3);
  const target = random.pick([id, ...made.slice(-2)]);
  say(`restore ${target}`);
  await (await backups.restore(target, ME)).ended;
  say(`restored ${target}`);
}
