// What the disk had wrong, written again from the adapter that still has it: hashed on the way, so that nothing else takes its
// place. What no adapter has stays damaged until somebody stores it again. In the key's order, one after another.
import { problem } from '../contract/problems.ts';
import type { KeyedLock } from '../store/keyed-lock.ts';
import type { Store } from '../store/store.ts';
import type { Digests } from './digest.ts';
import { type Entry, idOf, isHot } from './entry.ts';
import type { Holdings } from './holdings.ts';
import { PRIVATE_BYTES_MAX } from './pour.ts';
import type { Read } from './read.ts';

export interface Mends {
  /** Resolves to whether the disk has it whole again. */
  mend(tenant: string, key: string): Promise<boolean>;
  /** All that have begun are done. */
  close(): Promise<void>;
}

export interface MendParts {
  readonly holdings: Holdings;
  readonly keys: KeyedLock;
  readonly store: Pick<Store, 'begin'>;
  readonly digests: Digests;
  readonly read: Read;
  readonly log: (line: string) => void;
}

export function createMends({ holdings, keys, store, digests, read, log }: MendParts): Mends {
  const closing = new AbortController();
  let last: Promise<unknown> = Promise.resolve();

  async function write(entry: Entry): Promise<void> {
    const writer = await store.begin(false, entry.record.bytes);
    const hash = digests.begin(entry.record.bytes <= PRIVATE_BYTES_MAX ? 'private' : 'shared');
    try {
      let at = 0;
      for await (const { piece, length } of read(entry, closing.signal)) {
        const done = [hash.update(piece, length), writer.write(piece.bytes, length, at)];
        at += length;
        await Promise.all(done).finally(() => piece.release());
      }
      const found = Buffer.from(await hash.end()).toString('hex');
      if (found !== entry.record.digest) throw problem('record_damaged', `On its adapter its sha-256 is ${found}.`);
      await writer.commit(entry.record);
    } catch (error) {
      hash.drop();
      await writer.abort();
      throw error;
    }
  }

  async function mend(id: string): Promise<boolean> {
    const entry = holdings.at(id);
    if (!entry?.onDisk || !isHot(entry) || closing.signal.aborted) return false;
    const name = `${entry.record.tenant}/${entry.record.key}`;
    try {
      await write(entry);
      log(`${name} is whole on disk again, from ${entry.lease?.adapter ?? 'its adapter'}`);
      return true;
    } catch (error) {
      log(`${name} could not be written again: ${String(error)}`);
      return false;
    }
  }

  return {
    mend(tenant, key) {
      const id = idOf(tenant, key);
      const mended = last.then(() => keys.run(id, () => mend(id)));
      last = mended;
      return mended;
    },
    async close() {
      closing.abort(new Error('the cache is closed'));
      await last;
    },
  };
}
