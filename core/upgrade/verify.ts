// Whether a store is whole: it opens, it holds as many entries as before, and every byte of every payload is what its digest says;
// `quick`: of a thousand of them, spread over all. What is not, is named.
import { createHash } from 'node:crypto';
import type { StoredRecord } from '../store/records.ts';
import { openStore, type Store } from '../store/store.ts';

const QUICK_ENTRIES = 1000;
const READ_BYTES = 1 << 20;
const NAMED_MAX = 20;

export interface Verified {
  readonly entries: number;
  readonly read: { readonly entries: number; readonly bytes: number };
  /** What cannot be served, by name. */
  readonly wrong: readonly string[];
}

export interface VerifyOptions {
  readonly isQuick: boolean;
  readonly passed: (entry: number, of: number) => void;
}

export async function verifyStore(folder: string, { isQuick, passed }: VerifyOptions): Promise<Verified> {
  const store = await openStore(folder, () => {});
  try {
    const wrong = store.lost.map(({ name, reason }) => `${name} (${reason})`);
    const all = store.found;
    const step = isQuick ? Math.max(1, Math.ceil(all.length / QUICK_ENTRIES)) : 1;
    const chosen = all.filter((_, i) => i % step === 0);
    let bytes = 0;
    for (const [i, record] of chosen.entries()) {
      const fault = await faultOf(store, record);
      if (fault) wrong.push(`${record.tenant}/${record.key} (${fault})`);
      bytes += record.bytes;
      passed(i + 1, chosen.length);
    }
    return { entries: all.length, read: { entries: chosen.length, bytes }, wrong };
  } finally {
    await store.close();
  }
}

async function faultOf(store: Store, record: StoredRecord): Promise<string | undefined> {
  const hash = createHash('sha256');
  const buffer = Buffer.alloc(Math.min(READ_BYTES, record.bytes));
  try {
    const reader = await store.open(record);
    try {
      for (let at = 0; at < record.bytes; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, record.bytes - at));
        await reader.read(part, at);
        hash.update(part);
      }
    } finally {
      await reader.close();
    }
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return hash.digest('hex') === record.digest ? undefined : 'its bytes are not those of its digest';
}

/** A few names are enough to begin with. */
export const named = (wrong: readonly string[]): string =>
  [...wrong.slice(0, NAMED_MAX), ...(wrong.length > NAMED_MAX ? [`and ${wrong.length - NAMED_MAX} more`] : [])].join(
    '; ',
  );
