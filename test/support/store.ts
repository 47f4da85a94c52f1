// Bytes in and out of a store, as the cache brings and fetches them.
import { createHash } from 'node:crypto';
import type { StoredRecord } from '../../core/store/records.ts';
import type { Store } from '../../core/store/store.ts';

export const recordFor = (key: string, bytes: Uint8Array, more: Partial<StoredRecord> = {}): StoredRecord => ({
  tenant: 't',
  key,
  digest: createHash('sha256').update(bytes).digest('hex'),
  bytes: bytes.length,
  codec: 'raw',
  dtype: 'U8',
  shape: [bytes.length],
  tensors: 1,
  priority: 50,
  createdAt: 1_800_000_000_000,
  expiresAt: null,
  ...more,
});

/** Given up if it fails. */
export async function putBytes(
  store: Store,
  key: string,
  bytes: Uint8Array,
  more: Partial<StoredRecord> = {},
): Promise<StoredRecord> {
  const record = recordFor(key, bytes, more);
  const writer = await store.begin(false);
  try {
    await writer.write(bytes, bytes.length, 0);
    await writer.commit(record);
    return record;
  } catch (error) {
    await writer.abort();
    throw error;
  }
}

export async function bytesUnder(store: Store, record: StoredRecord): Promise<Uint8Array> {
  const reader = await store.open(record);
  const into = new Uint8Array(record.bytes);
  await reader.read(into, 0).finally(() => reader.close());
  return into;
}
