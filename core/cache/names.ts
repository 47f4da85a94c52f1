// The names that each tenant holds, to be listed in order. Changes are set aside until somebody lists: writing stays O(1). Names in
// order lie in chunks of a few hundred, so that to settle some changes among a million costs a few chunks; where much has changed,
// all is put in order at once.

const CHUNK_MAX = 512;

export interface Names {
  add(tenant: string, key: string): void;
  delete(tenant: string, key: string): void;
  /** How many a tenant has. */
  count(tenant: string): number;
  /** Keys that begin with `prefix` and come after `after`, in order of their code units. */
  from(tenant: string, prefix: string, after: string): Generator<string, void, void>;
}

interface TenantNames {
  /** In order, none empty; as of the last listing. */
  chunks: string[][];
  count: number;
  /** What has come and gone since. */
  readonly added: Set<string>;
  readonly removed: Set<string>;
}

export function createNames(): Names {
  const tenants = new Map<string, TenantNames>();

  return {
    add(tenant, key) {
      const names = tenants.get(tenant) ?? { chunks: [], count: 0, added: new Set(), removed: new Set() };
      tenants.set(tenant, names);
      if (!names.removed.delete(key)) names.added.add(key);
    },
    delete(tenant, key) {
      const names = tenants.get(tenant);
      if (!names || names.added.delete(key)) return;
      names.removed.add(key);
    },
    count(tenant) {
      const names = tenants.get(tenant);
      return names ? names.count + names.added.size - names.removed.size : 0;
    },
    *from(tenant, prefix, after) {
      const names = tenants.get(tenant);
      if (!names) return;
      settle(names);
      const { chunks } = names;
      const [, start = prefix] = [prefix, after].sort();
      let first = true;
      for (let i = chunkFor(chunks, start); i < chunks.length; i++) {
        const chunk = chunks[i] ?? [];
        for (let at = first ? firstAtLeast(chunk, start) : 0; at < chunk.length; at++) {
          const key = chunk[at] as string; // at is in range
          if (!key.startsWith(prefix)) return;
          if (key > after) yield key;
        }
        first = false;
      }
    },
  };
}

function settle(names: TenantNames): void {
  const { added, removed } = names;
  const changes = added.size + removed.size;
  if (changes * CHUNK_MAX > names.count) putInOrder(names);
  else {
    for (const key of removed) take(names.chunks, key);
    for (const key of added) insert(names.chunks, key);
  }
  names.count += added.size - removed.size;
  added.clear();
  removed.clear();
}

/** Sorts what is new and merges it in: one pass, not a sort of everything. Chunks are left half empty. */
function putInOrder(names: TenantNames): void {
  const added = [...names.added].sort();
  const merged: string[] = [];
  let next = 0;
  for (const chunk of names.chunks)
    for (const key of chunk) {
      for (let one = added[next]; one !== undefined && one < key; one = added[++next]) merged.push(one);
      if (!names.removed.has(key)) merged.push(key);
    }
  for (; next < added.length; next++) merged.push(added[next] as string); // next is in range
  names.chunks = [];
  for (let at = 0; at < merged.length; at += CHUNK_MAX / 2) names.chunks.push(merged.slice(at, at + CHUNK_MAX / 2));
}

function take(chunks: string[][], key: string): void {
  const at = chunkFor(chunks, key);
  const chunk = chunks[at];
  if (!chunk) return;
  chunk.splice(firstAtLeast(chunk, key), 1);
  if (chunk.length === 0) chunks.splice(at, 1);
}

function insert(chunks: string[][], key: string): void {
  const at = Math.min(chunkFor(chunks, key), Math.max(0, chunks.length - 1));
  const chunk = chunks[at];
  if (!chunk) return void chunks.push([key]);
  chunk.splice(firstAtLeast(chunk, key), 0, key);
  if (chunk.length > CHUNK_MAX) chunks.splice(at + 1, 0, chunk.splice(CHUNK_MAX / 2));
}

/** The first chunk that ends at the key or behind it. */
const chunkFor = (chunks: readonly string[][], key: string): number =>
  firstWhere(chunks.length, (i) => (chunks[i]?.at(-1) ?? '') >= key);
const firstAtLeast = (sorted: readonly string[], key: string): number =>
  firstWhere(sorted.length, (i) => (sorted[i] as string) >= key);

/** The first place at which it holds, as it does from there on. */
function firstWhere(length: number, holds: (at: number) => boolean): number {
  let low = 0;
  let high = length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (holds(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
