// The engine below HTTP: a real pool, a real store and the cache over both, in a folder of its own, with a clock that tests
// turn, and a check of what must hold whenever nothing is under way.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Cache, type CacheOptions, type Found, openCache, type PutOptions } from '../../core/cache/cache.ts';
import { openDigests } from '../../core/cache/digest.ts';
import { openKvDisk } from '../../core/cache/kv/disk/shelf.ts';
import { type Kv, type KvOptions, openKv } from '../../core/cache/kv/kv.ts';
import type { TensorEntry } from '../../core/contract/messages.ts';
import { PAGE_BYTES, pageBytesFor, SLAB_BYTES } from '../../core/gpu/arena.ts';
import type { GpuLease } from '../../core/gpu/gpu-lease.ts';
import type { Pieces } from '../../core/gpu/pieces.ts';
import type { Pool, PoolOptions } from '../../core/gpu/pool.ts';
import { realDisk } from '../../core/store/disk.ts';
import { openStore, type Store, type StoreOptions } from '../../core/store/store.ts';
import { startPool, type Transport } from './adapters.ts';
import { folder } from './folders.ts';
import { until } from './until.ts';

export const TENANT = 'tenant';

export interface Engine {
  readonly cache: Cache;
  readonly kv: Kv;
  readonly store: Store;
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly path: string;
  readonly clock: { now: number };
  readonly lines: string[];
  put(key: string, bytes: Uint8Array, more?: Partial<PutOptions>): ReturnType<Cache['put']>;
  /** The bytes under a key, read to the end. */
  get(key: string): Promise<Uint8Array | undefined>;
  peek(key: string): TensorEntry | undefined;
  /** Everything that the tenant holds. */
  all(): TensorEntry[];
  /** Takes pages away so that the cache has only so many on the first adapter. */
  leavePages(pages: number): void;
  /** SIGKILL to the adapter's process; resolves once another serves, with all of its pages. */
  killAdapter(): Promise<void>;
  pid(): number;
  /** Ends everything, and starts it again over the same folder. */
  reopen(): Promise<void>;
  /** Throws unless pages, bytes, pieces and files are accounted for. */
  assertIdle(): Promise<void>;
}

export async function* bodyOf(bytes: Uint8Array, chunkBytes = 65_536): AsyncGenerator<Uint8Array, void, void> {
  for (let at = 0; at < bytes.length; at += chunkBytes) yield Uint8Array.from(bytes.subarray(at, at + chunkBytes));
}

/** Ends what would wait for ever, as where a piece was kept. */
export const patience = (): AbortSignal => AbortSignal.timeout(30_000);

/** A held entry, read to the end. */
export async function readAll(held: Found, signal = patience()): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const { piece, length } of held.read(signal)) {
    parts.push(Uint8Array.from(piece.bytes.subarray(0, length)));
    piece.release();
  }
  return Buffer.concat(parts);
}

export interface EngineOptions {
  readonly transport?: Transport;
  readonly pool?: Partial<PoolOptions>;
  readonly cache?: Partial<CacheOptions>;
  readonly store?: StoreOptions;
  readonly kv?: Partial<KvOptions>;
  /** Of KV on disk, under `kv` in the engine's folder; default: none. */
  readonly kvDiskBytes?: number;
}

export async function startEngine(t: TestContext, options: EngineOptions = {}): Promise<Engine> {
  const path = join(folder(t), 'cache');
  const lines: string[] = [];
  const log = (line: string) => lines.push(line);
  const clock = { now: 1_800_000_000_000 };
  const start = () => startPool(t, { transport: options.transport ?? 'ring', ...options.pool, onLost: dropLost });
  let { pool, pieces, pid } = await start();
  const digests = openDigests(pieces);
  const alive = setInterval(() => {}, 1000); // the thread that hashes keeps no process alive
  let store: Store;
  let cache: Cache;
  let kv: Kv;
  let ballast: { lease: GpuLease; pages: number } | undefined;

  async function open(): Promise<void> {
    store = await openStore(path, log, options.store);
    cache = openCache({
      pool,
      pieces,
      digests,
      store,
      bodyBytesMax: 64 << 20,
      entriesMax: 1000,
      now: () => clock.now,
      log,
      ...options.cache,
    });
    const { kvDiskBytes } = options;
    const disk = kvDiskBytes === undefined ? undefined : await openKvDisk(join(path, 'kv'), kvDiskBytes, realDisk);
    kv = openKv({
      ...(disk && { disk }),
      ...{ pool, pieces, digests, bodyBytesMax: 64 << 20, makeRoom: cache.makeRoom, now: () => clock.now },
      ...{
        share: 0.5,
        window: { firstBlocks: 1, lastBlocks: 2 },
        coldBytesMax: 0,
        recomputeTokensPerSecond: 1,
        verifyMs: 60_000,
        canary: { share: 0, random: () => 0.5 },
        log,
      },
      ...options.kv,
    });
  }
  function dropLost(): void {
    cache.dropLost();
    kv.dropLost();
  }
  async function close(): Promise<void> {
    await kv.close();
    await cache.close();
    await store.close();
  }
  const sum = (numbers: number[]): number => numbers.reduce((total, n) => total + n, 0);
  /** Pages of the usual size that could still be leased, on all adapters. */
  const freePages = (): number =>
    sum(
      pool.report().map(({ memory: { freeSlabs, classes } }) => {
        const open = classes.find(({ pageBytes }) => pageBytes === PAGE_BYTES)?.freePages ?? 0;
        return open + freeSlabs * (SLAB_BYTES / PAGE_BYTES);
      }),
    );

  await open();
  t.after(async () => {
    clearInterval(alive);
    await close();
    await digests.close();
  });

  const engine: Engine = {
    get cache() {
      return cache;
    },
    get kv() {
      return kv;
    },
    get store() {
      return store;
    },
    get pool() {
      return pool;
    },
    pieces,
    path,
    clock,
    lines,
    pid: () => pid(),
    put: (key, bytes, more) =>
      cache.put({
        tenant: TENANT,
        key,
        body: { chunks: bodyOf(bytes), length: bytes.length },
        digest: undefined,
        ttlSeconds: undefined,
        priority: 50,
        durability: 'through',
        signal: patience(),
        ...more,
      }),
    async get(key) {
      const held = cache.get(TENANT, key);
      return held && readAll(held);
    },
    peek: (key) => cache.peek(TENANT, key),
    all: () => cache.list(TENANT, '', '', 1000).entries,
    leavePages(pages) {
      if (ballast && !ballast.lease.lost) ballast.lease.release();
      const lease = pool.lease();
      const taken = freePages() - pages;
      assert.ok(lease.grow(taken * PAGE_BYTES));
      ballast = { lease, pages: taken };
    },
    async killAdapter() {
      const first = pid();
      process.kill(first, 'SIGKILL');
      await until(() => pool.ready && pid() !== first, 'another process serves');
    },
    async reopen() {
      await close();
      await pool.close();
      ({ pool, pieces, pid } = await start());
      await open();
    },
    async assertIdle() {
      await until(() => pieces.free === pieces.count, 'all pieces are back', 2000);
      assert.equal(pieces.waiting, 0);
      const hot = engine.all().filter(({ tier }) => tier === 'hot');
      const pages = hot.map(({ bytes }) => Math.ceil(bytes / pageBytesFor(bytes)) * pageBytesFor(bytes));
      const aside = ballast && !ballast.lease.lost ? ballast.pages * PAGE_BYTES : 0;
      const used = sum(pool.report().map(({ memory }) => memory.used)) - aside - kv.stats().bytes;
      const { bytes } = cache.stats();
      const most = bytes.saved > 0 ? sum(pages) - 1 : sum(pages); // equal payloads share theirs
      const least = bytes.saved > 0 ? new Set(hot.map(({ digest }) => digest)).size : most;
      assert.ok(used >= least && used <= most, `pages are leased that neither an entry nor a block holds: ${used}`);
      assert.deepEqual([...cache.check(), ...kv.check()], []);
      assert.equal(
        bytes.hot + bytes.saved,
        hot.reduce((sum, { bytes }) => sum + bytes, 0),
      );
      // what was answered `back` may still be on its way
      await until(() => readdirSync(join(path, 'incoming')).length === 0, 'nothing is left half written', 10_000);
    },
  };
  return engine;
}
