// A process that writes to a store until it is killed, by a point that it comes to or from outside. It says on stdout what it
// is about to do, and what was answered; a line is out before the next step is taken. Nothing here is waited for politely.
import { writeSync } from 'node:fs';
import { realDisk } from '../../../core/store/disk.ts';
import { openStore } from '../../../core/store/store.ts';
import { bytesOf, KEYS, SIZES, SMALL_STORE } from '../../support/crash.ts';
import { seeded } from '../../support/seeded.ts';
import { putBytes, recordFor } from '../../support/store.ts';

const [path = '', point = '', passes = '1', from = '0'] = process.argv.slice(2);
const random = seeded();
let left = Number(passes);
const disk = {
  ...realDisk,
  reached(at: string) {
    if (at === point && --left <= 0) process.kill(process.pid, 'SIGKILL');
  },
};
const say = (line: string) => void writeSync(1, `${line}\n`);

const store = await openStore(path, (line) => say(`log ${line}`), { disk, ...SMALL_STORE });
say('open');
let version = Number(from);

/** Keys of its own, so that what a writer did last is what must be there. */
async function work(writer: number): Promise<never> {
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
await Promise.all(Array.from({ length: 4 }, (_, writer) => work(writer)));
