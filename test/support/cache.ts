// What tests of the cache share: files, what a key holds, and an entry made to leave its adapter.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Found } from '../../core/cache/cache.ts';
import type { Durability } from '../../core/contract/messages.ts';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { PAGE_BYTES } from '../../core/gpu/arena.ts';
import { assertSameBytes } from './bytes.ts';
import { type Engine, patience, TENANT } from './engine.ts';
import { seeded } from './seeded.ts';

export const MiB = 1 << 20;
export const random = seeded();
export const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest();

export const fileOf = (bytes: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) }]));

export async function assertHolds(engine: Engine, key: string, bytes: Uint8Array): Promise<void> {
  const found = await engine.get(key);
  assert.ok(found, `${key} is not there`);
  assertSameBytes(found, bytes, key);
}
export const held = (engine: Engine, key: string): Found => {
  const found = engine.cache.get(TENANT, key);
  assert.ok(found, `${key} is not there`);
  return found;
};
/** Pushes an entry off the adapter, to the disk. */
export async function evict(engine: Engine, key: string): Promise<void> {
  engine.leavePages(0);
  await engine
    .put('pusher', fileOf(5 * PAGE_BYTES), { durability: 'none' })
    .finally(() => engine.cache.delete(TENANT, 'pusher'));
  assert.equal(engine.peek(key)?.tier, 'cold');
  engine.leavePages(512);
}
/** Changes one bit of a payload, wherever it lies. */
export function flipOnDisk(path: string, payload: Uint8Array): void {
  const names = readdirSync(join(path, 'entries'), { recursive: true, withFileTypes: true });
  for (const entry of names.filter((entry) => entry.isFile())) {
    const file = join(entry.parentPath, entry.name);
    const bytes = readFileSync(file);
    const at = bytes.indexOf(payload);
    if (at < 0) continue;
    const last = at + payload.length - 1;
    bytes[last] = (bytes[last] ?? 0) ^ 1;
    writeFileSync(file, bytes);
    return;
  }
  assert.fail('it is nowhere on disk');
}
export const openFiles = (): number => readdirSync('/dev/fd').length;
export const LRU = { strategy: 'lru', objective: 'hits', adjustEvery: undefined } as const;
export const durabilities: readonly Durability[] = ['through', 'back', 'none'];

/** Reads the first piece, lets `meanwhile` happen, and gives the whole. */
export async function readAround(engine: Engine, key: string, meanwhile: () => Promise<unknown>): Promise<Uint8Array> {
  const reading = held(engine, key).read(patience());
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of reading) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
    if (parts.length === 1) await meanwhile();
  }
  return Buffer.concat(parts);
}
