// A real engine of two adapters' processes under any order of calls, and beside it what each key and each sequence of tokens may
// hold. What is on disk is there, bit by bit, whatever happened; what is not may be gone, and never wrong. What is gone of KV is
// known as soon as a lookup says so, and does not come back by itself. Refusals are problems, of a few kinds.
import assert from 'node:assert/strict';
import { getMany, putMany } from '../../core/cache/batch.ts';
import type { Found } from '../../core/cache/cache.ts';
import { BLOCK_TOKENS } from '../../core/codec/pages.ts';
import type { Durability } from '../../core/contract/messages.ts';
import type { PolicyBody } from '../../core/contract/policy.ts';
import { Problem, type ProblemCode } from '../../core/contract/problems.ts';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { SLAB_BYTES } from '../../core/gpu/arena.ts';
import { assertSameBytes } from './bytes.ts';
import { type Engine, patience, TENANT } from './engine.ts';
import { loadKv, OWNER, type Sequence, sequence, storeKv } from './kv.ts';
import { seeded } from './seeded.ts';
import { until } from './until.ts';

export const ADAPTERS = ['adapter-0', 'adapter-1'] as const;
/** Bytes of what is put. */
export const SIZES = [100, 5000, 70_000, 900_000, 3_000_000] as const;
/** Of each adapter; the others are somebody else's. */
const SLABS_LEFT = 3;
const SHAPE = [1, 1, BLOCK_TOKENS, 64] as const;

export interface Put {
  readonly key: string;
  readonly size: number;
  readonly durability: Durability;
  readonly ttlSeconds: number | undefined;
}

interface Known {
  readonly bytes: Uint8Array;
  readonly expiresAt: number;
  readonly isDurable: boolean;
}

type Pieces = ReturnType<Found['read']>;

interface Read {
  readonly known: Known;
  readonly rest: Pieces;
  /** The first bytes, which are asked for at once. */
  readonly first: ReturnType<Pieces['next']>;
  /** It is still what its key holds, and no adapter went. */
  isSure: boolean;
}

export interface WalkedEngine {
  readonly engine: Engine;
  /** Empties everything for the next sequence. */
  reset(): Promise<void>;
  put(put: Put): Promise<void>;
  putMany(puts: readonly Put[]): Promise<void>;
  get(key: string): Promise<void>;
  getMany(keys: readonly string[]): Promise<void>;
  beginRead(key: string): void;
  endRead(): Promise<void>;
  delete(key: string): Promise<void>;
  move(prefix: string, adapter: string): Promise<void>;
  storeKv(word: string, ttl: number | undefined): Promise<void>;
  loadKv(word: string): Promise<void>;
  lookupKv(word: string, use: boolean): void;
  pinKv(word: string, ttl: number): void;
  unpinKv(): void;
  recodeKv(word: string): Promise<void>;
  moveKv(word: string, adapter: string): Promise<void>;
  clearKv(word: string): Promise<void>;
  setPolicy(policy: PolicyBody): void;
  sweep(): Promise<void>;
  drain(adapter: string): Promise<void>;
  resume(adapter: string): void;
  kill(adapter: number): Promise<void>;
  reopen(): Promise<void>;
  check(): void;
}

const REFUSALS: readonly ProblemCode[] = [
  'capacity_exhausted',
  'adapter_lost',
  'adapter_unavailable',
  'kv_unknown',
  'pins_full',
];

/** Undefined where it was refused, as it may be. */
async function allowed<T>(asked: T | Promise<T>): Promise<T | undefined> {
  try {
    return await asked;
  } catch (error) {
    assert.ok(error instanceof Problem && REFUSALS.includes(error.code), String(error));
    return undefined;
  }
}

/** `kvBytesMax`: the budget of KV with all adapters there. */
export function walkedEngine(engine: Engine, kvBytesMax: number): WalkedEngine {
  const random = seeded();
  const known = new Map<string, Known>();
  /** By beginnings: those that may be held, until when, and whether every bit is. */
  const stored = new Map<string, { expiresAt: number; isExact: boolean }>();
  const letters = new Map<string, Sequence>();
  const reads: Read[] = [];
  let pins: { id: string; word: string; expiresAt: number }[] = [];
  const now = () => engine.clock.now;

  const isThere = (one: Known | undefined): one is Known => one !== undefined && one.expiresAt > now();

  function takeBallast(): void {
    for (const adapter of ADAPTERS) {
      const { pool } = engine;
      if (pool.isDraining(adapter)) continue;
      const lease = pool.lease({ adapter, pageBytes: SLAB_BYTES });
      const { freeSlabs } = pool.reportOf(adapter).memory;
      if (freeSlabs > SLABS_LEFT) assert.ok(lease.grow((freeSlabs - SLABS_LEFT) * SLAB_BYTES));
      else lease.release();
    }
  }

  const fileOf = (size: number): Uint8Array =>
    joinParts(tensorParts([{ name: 'x', dtype: 'U8', shape: [size], data: random.bytes(size) }]));

  function told({ key, durability, ttlSeconds }: Put, bytes: Uint8Array): void {
    const expiresAt = ttlSeconds === undefined ? Number.POSITIVE_INFINITY : now() + ttlSeconds * 1000;
    forgetReads(key);
    known.set(key, { bytes, expiresAt, isDurable: durability !== 'none' });
  }

  function forgetReads(key: string): void {
    for (const read of reads) if (read.known === known.get(key)) read.isSure = false;
  }

  /** What was found under a key, against what should be there. */
  function compare(key: string, found: Uint8Array | undefined): void {
    const one = known.get(key);
    if (found) {
      assert.ok(isThere(one), `${key} was found, and should not be there`);
      assertSameBytes(found, one.bytes, key);
    } else {
      assert.ok(!isThere(one) || !one.isDurable, `${key} is gone`);
      known.delete(key);
    }
  }

  /** Of the letters of a word, whatever follows them in another. */
  function sequenceOf(word: string): Sequence {
    const parts = [...word].map((_, at) => {
      const name = word.slice(0, at + 1);
      const part = letters.get(name) ?? sequence(random, SHAPE);
      letters.set(name, part);
      return part;
    });
    const tokens = Int32Array.from(parts.flatMap((_, at) => Array<number>(BLOCK_TOKENS).fill(word.charCodeAt(at))));
    const join = (name: 'k' | 'v') => Buffer.concat(parts.map((part) => part[name]));
    return { tokens, dtype: 'F16', shape: [1, 1, tokens.length, SHAPE[3]], k: join('k'), v: join('v') };
  }

  const beginnings = (word: string): string[] => [...word].map((_, at) => word.slice(0, at + 1));
  const tokensOf = (word: string): Int32Array => sequenceOf(word).tokens;

  /** How much of it may be held. */
  function most(word: string): number {
    const gone = beginnings(word).findIndex((name) => (stored.get(name)?.expiresAt ?? 0) <= now());
    return gone < 0 ? word.length : gone;
  }

  function forget(beginning: string): void {
    for (const name of stored.keys()) if (name.startsWith(beginning)) stored.delete(name);
  }

  function lookup(word: string, use = false): number {
    const asked = { ...OWNER, tokens: tokensOf(word), explain: true, use, layout: {} };
    const { matchedTokens, explain } = engine.kv.lookup(asked);
    const blocks = matchedTokens / BLOCK_TOKENS;
    assert.ok(blocks <= most(word), `${blocks} blocks of ${word} are found, and ${most(word)} may be there`);
    assert.equal(explain === null, blocks === word.length);
    for (const pin of pins)
      if (pin.expiresAt > now() && word.startsWith(pin.word))
        assert.ok(blocks >= pin.word.length, `${pin.word} is pinned`);
    if (blocks < most(word)) forget(word.slice(0, blocks + 1));
    return blocks;
  }

  function keepAtLeast(word: string, expiresAt: number): void {
    for (const name of beginnings(word)) {
      const before = stored.get(name);
      stored.set(name, { expiresAt: Math.max(before?.expiresAt ?? 0, expiresAt), isExact: before?.isExact ?? true });
    }
  }

  async function endRead(): Promise<void> {
    const read = reads.shift();
    if (!read) return;
    const { known, first, rest } = read;
    const parts: Uint8Array[] = [];
    try {
      for (let next = await first; !next.done; next = await rest.next()) {
        parts.push(Uint8Array.from(next.value.piece.bytes.subarray(0, next.value.length)));
        next.value.piece.release();
      }
      assertSameBytes(Buffer.concat(parts), known.bytes, 'read slowly');
    } catch (error) {
      if (read.isSure || !(error instanceof Problem)) throw error;
      assert.equal(error.code, 'adapter_lost');
    }
  }

  /** What is there on adapters only may be gone. */
  function unsure(): void {
    pins = [];
    for (const read of reads) read.isSure &&= read.known.isDurable;
  }

  return {
    engine,
    async reset() {
      while (reads.length > 0) await endRead();
      for (const adapter of ADAPTERS) if (engine.pool.isDraining(adapter)) engine.pool.resume(adapter);
      for (const { key } of engine.all()) await engine.cache.delete(TENANT, key);
      engine.clock.now += 1e9; // the rest has expired
      await engine.kv.sweep();
      await engine.kv.clear({ tenant: TENANT });
      for (const each of [known, stored, letters]) each.clear();
      pins = [];
      await until(() => engine.pieces.free === engine.pieces.count, 'all pieces are back', 10_000);
      assert.equal(engine.kv.stats().bytes, 0);
      takeBallast();
    },
    async put(put) {
      const bytes = fileOf(put.size);
      const { key, durability, ttlSeconds } = put;
      if (await allowed(engine.put(key, bytes, { durability, ttlSeconds }))) told(put, bytes);
    },
    async putMany(puts) {
      const entries = [...new Map(puts.map((put) => [put.key, put])).values()].map((put) => ({
        put,
        file: fileOf(put.size),
      }));
      const done = await putMany(
        engine.cache,
        entries.map(({ put, file }) => ({ ...put, tenant: TENANT, file, priority: 50, signal: patience() })),
      );
      for (const [i, one] of done.entries()) {
        const entry = entries[i];
        if (one instanceof Problem) await allowed(Promise.reject(one));
        else if (entry) told(entry.put, entry.file);
      }
    },
    async get(key) {
      compare(key, await engine.get(key));
    },
    async getMany(keys) {
      const asked = { tenant: TENANT, keys: [...new Set(keys)], bytesMax: 64 << 20, signal: patience() };
      for (const [i, one] of (await getMany(engine.cache, asked)).entries()) {
        if (one instanceof Problem) assert.equal(one.code, 'tensor_unknown');
        compare(asked.keys[i] ?? '', one instanceof Problem ? undefined : one.file);
      }
    },
    beginRead(key) {
      const one = known.get(key);
      if (reads.length >= 3) return;
      const found = engine.cache.get(TENANT, key);
      if (!found || !isThere(one)) return;
      const rest = found.read(patience());
      const first = rest.next();
      first.catch(() => {}); // told to whoever ends it
      reads.push({ known: one, rest, first, isSure: true });
    },
    endRead,
    async delete(key) {
      const isHeld = await engine.cache.delete(TENANT, key);
      const one = known.get(key);
      assert.ok(isHeld ? isThere(one) : !isThere(one) || !one.isDurable, key);
      forgetReads(key);
      known.delete(key);
    },
    async move(prefix, adapter) {
      await allowed(engine.cache.move(TENANT, { prefix }, adapter, patience()));
    },
    async storeKv(word, ttl) {
      const answer = await allowed(storeKv(engine, sequenceOf(word), { ttl }));
      const expiresAt = ttl === undefined ? Number.POSITIVE_INFINITY : now() + ttl * 1000;
      keepAtLeast(answer ? word.slice(0, answer.storedTokens / BLOCK_TOKENS) : word, expiresAt);
    },
    async loadKv(word) {
      const found = await allowed(loadKv(engine, tokensOf(word), 'F16'));
      if (!found) return;
      const blocks = found.matchedTokens / BLOCK_TOKENS;
      assert.ok(blocks <= most(word));
      const own = sequenceOf(word.slice(0, blocks));
      const isExact = beginnings(word.slice(0, blocks)).every((name) => stored.get(name)?.isExact);
      assert.equal(found.k.length, own.k.length);
      if (isExact)
        for (const part of ['k', 'v'] as const) assertSameBytes(found[part], own[part], `${part} of ${word}`);
    },
    lookupKv: (word, use) => void lookup(word, use),
    pinKv(word, ttl) {
      const blocks = lookup(word);
      if (blocks === 0) return;
      try {
        const { pin, pinnedBlocks } = engine.kv.pin({ ...OWNER, tokens: tokensOf(word), ttl });
        assert.equal(pinnedBlocks, blocks);
        const expiresAt = now() + ttl * 1000;
        pins.push({ id: pin, word: word.slice(0, blocks), expiresAt });
        keepAtLeast(word.slice(0, blocks), expiresAt);
      } catch (error) {
        assert.ok(error instanceof Problem && error.code === 'pins_full', String(error));
      }
    },
    unpinKv() {
      const pin = pins.shift();
      if (pin && pin.expiresAt > now()) engine.kv.unpin({ tenant: TENANT, pin: pin.id });
    },
    async recodeKv(word) {
      if (
        !(await allowed(
          engine.kv.recode({ ...OWNER, tokens: tokensOf(word), codecK: 'tq4', codecV: 'tq4', signal: patience() }),
        ))
      )
        return;
      for (const name of beginnings(word)) {
        const one = stored.get(name);
        if (one) one.isExact = false;
      }
    },
    async moveKv(word, adapter) {
      await allowed(engine.kv.move({ ...OWNER, tokens: tokensOf(word), to: { adapter }, signal: patience() }));
    },
    async clearKv(word) {
      await engine.kv.clear({ tenant: TENANT, model: OWNER.model, prefix: tokensOf(word) });
      forget(word);
      pins = pins.filter((pin) => !pin.word.startsWith(word));
    },
    setPolicy: (policy) => engine.cache.setPolicy(policy),
    sweep: () => engine.kv.sweep(),
    async drain(adapter) {
      unsure();
      await engine.cache.drain(adapter, patience());
      await engine.kv.drain(adapter, patience());
    },
    resume: (adapter) => void engine.pool.resume(adapter),
    async kill(adapter) {
      const id = ADAPTERS[adapter] ?? '';
      const before = engine.pool.reportOf(id);
      if (before.pid === undefined) return;
      unsure();
      process.kill(before.pid, 'SIGKILL');
      await until(() => engine.pool.reportOf(id).restarts > before.restarts, 'it is told of', 20_000);
      await until(() => engine.pool.reportOf(id).pid !== undefined, 'another serves', 20_000);
      takeBallast();
    },
    async reopen() {
      while (reads.length > 0) await endRead();
      for (const [key, { isDurable }] of known) if (!isDurable) known.delete(key);
      stored.clear();
      pins = [];
      await engine.reopen();
      takeBallast();
    },
    check() {
      const { cache, kv, pool } = engine;
      assert.deepEqual([...cache.check(), ...kv.check()], []);
      const { memory, bytesMost } = kv.stats();
      assert.ok(bytesMost <= kvBytesMax, 'KV was above its budget');
      assert.ok(memory.bytesMost <= memory.bytesMax, 'the cold shelf was above its budget');
      for (const { memory, id } of pool.report())
        assert.ok(memory.asked <= memory.used && memory.used + memory.idle <= memory.capacity, id);
    },
  };
}
