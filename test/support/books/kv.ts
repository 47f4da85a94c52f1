// The books of KV under any order of calls: real blocks, pins, stakes, leases and the cold shelf, and beside them what each block
// should be. A sequence is a word: each letter stands for a block of equal tokens. Who leaves an adapter is looked at: nobody
// held him, and no other was there whom none follows and who had a lower priority. Among equals the strategy chooses.
import assert from 'node:assert/strict';
import { type Root, rootOf, scopeOf } from '../../../core/cache/kv/blocks.ts';
import { createBook } from '../../../core/cache/kv/book.ts';
import { clear } from '../../../core/cache/kv/clear.ts';
import { createHeldPages, type Held, type HeldPages, type KvBlock } from '../../../core/cache/kv/held.ts';
import type { Packings } from '../../../core/cache/kv/packages.ts';
import { createPins } from '../../../core/cache/kv/pins.ts';
import { BLOCK_TOKENS, type Form, pageBytes } from '../../../core/codec/pages.ts';
import type { KvCause } from '../../../core/contract/kv-calls.ts';
import { Problem } from '../../../core/contract/problems.ts';
import type { GpuLease } from '../../../core/gpu/gpu-lease.ts';
import type { Ground } from './ground.ts';

const SHAPE = { layers: 2, kvHeads: 8, dim: 128 };
const EXACT: Form = { k: 'f16', v: 'f16' };
const CODED: Form = { k: 'tcq4', v: 'tcq4' };
/** Of both arenas: 20 blocks of 512 KiB. */
const SHARE = 0.04;
const SEALS = { words: new Uint32Array(0), seenMs: new Float64Array(0) };
const PACKING: Packings = { k: 'lossless', v: 'lossless' };
/** Of the cold shelf: some packages of up to 300 KiB. */
const COLD_BYTES_MAX = 1 << 20;
const PACKAGE_BYTES_MAX = 300 << 10;

export interface Word {
  readonly tenant: string;
  /** Under a salt that both tenants know. */
  readonly salted: boolean;
  readonly word: string;
}

export interface Stored extends Word {
  readonly priority: number;
  readonly ttlMs: number | null;
  readonly coded: boolean;
  /** Its last bytes come later. */
  readonly slow: boolean;
}

/** What a block should be. */
interface Known {
  readonly name: string;
  readonly block: KvBlock;
  priority: number;
  expiresAt: number;
  readers: number;
  /** The adapter that it has pages on. */
  adapter: string | undefined;
  readonly stakes: Set<string>;
  /** Of each tenant, how many. */
  readonly pins: Map<string, number>;
}

interface Pinned extends Word {
  readonly id: string;
  readonly expiresAt: number;
  readonly blocks: readonly Known[];
}

interface Intake {
  readonly stored: Stored;
  readonly made: Map<number, Held>;
  release(): void;
}

export interface KvBooks {
  readonly held: HeldPages;
  readonly left: Map<KvCause, number>;
  store(stored: Stored): void;
  arrive(index: number): void;
  read(word: Word): void;
  endRead(index: number): void;
  pin(word: Word, ttlMs: number): void;
  unpin(index: number, byTokens: boolean): void;
  clear(word: Word, isAll: boolean): void;
  recode(index: number): void;
  /** Near another adapter's lease, others leaving; or wherever there is free room. */
  move(index: number, adapter: string | undefined): void;
  damage(index: number): void;
  /** A package beside its pages; smaller or as large as was thought. */
  pack(index: number, bytes: number, isExact: boolean): void;
  cool(index: number): void;
  sweep(): void;
  dropLost(): void;
  check(): void;
  end(): void;
}

type MakeRoom = (lease: GpuLease, bytes: number) => boolean;

export function openKvBooks(ground: Ground, makeRoom: MakeRoom): KvBooks {
  const { clock, pool } = ground;
  const now = () => clock.now;
  const budget = () => SHARE * pool.capacityBytes;
  const bytesOf = ({ kept: { hot, cold } }: KvBlock) => bytesAs((hot ?? cold)?.form ?? EXACT);
  const book = createBook(now, ({ kept }) => ({ tier: 'hot', adapter: kept.hot?.lease.adapter ?? null }));
  const held = createHeldPages({
    ...{ pool, share: SHARE, makeRoom, coldBytesMax: COLD_BYTES_MAX, now, leased: () => {}, left: leave },
    moved(block) {
      const one = known.get(block);
      assert.ok(one, 'a block moved that was not there');
      if (!block.kept.hot) assertNext(one);
      one.adapter = block.kept.hot?.lease.adapter;
      book.moved(block);
    },
  });
  const { blocks } = held;
  const pins = createPins({ now, budget, bytesOf, hold: blocks.hold });
  const known = new Map<KvBlock, Known>();
  const roots = new Map<string, Root>();
  const intakes: Intake[] = [];
  const reads: { release: () => void }[] = [];
  let pinned: Pinned[] = [];
  const left = new Map<KvCause, number>();
  /** Who leaves now does so by hand, or with his adapter. */
  let isTold = false;
  /** For whom room is made. */
  let asking: string | undefined;
  let bytesBefore = 0;

  const scopeFor = ({ tenant, salted }: Word): string => scopeOf(tenant, salted ? 'salt' : undefined);
  function rootFor(word: Word): Root {
    const scope = scopeFor(word);
    const root = roots.get(scope) ?? rootOf(scope, 'm', SHAPE, BLOCK_TOKENS);
    roots.set(scope, root);
    return root;
  }
  const holdersOf = ({ readers, pins }: Known): number => readers + pins.size;

  function leave(block: KvBlock, cause: KvCause): void {
    const one = known.get(block);
    assert.ok(one, 'a block left that was not there');
    // what follows a block goes with it
    if (cause === 'evicted' && !block.parent?.removed) assertNext(one);
    else if (cause === 'evicted')
      assert.equal(block.kept.tenant, block.parent?.kept.tenant, `${one.name} went with what is another's`);
    if (cause === 'expired') assert.ok(one.expiresAt <= now(), `${one.name} expired too early`);
    known.delete(block);
    one.pins.clear();
    pins.drop(block);
    book.left(block, cause);
    left.set(cause, (left.get(cause) ?? 0) + 1);
  }

  /** It was its turn, of those on its adapter; who is on the shelf only, leaves for others there. */
  function assertNext(one: Known): void {
    if (isTold) return;
    assert.equal(holdersOf(one), 0, `${one.name} left, and is in use`);
    if (one.adapter === undefined) return;
    const { tenant } = one.block.kept;
    assertHasMost(tenant, one);
    const followed = new Set([...known.values()].map(({ adapter, block }) => adapter && block.parent));
    for (const other of known.values()) {
      if (other.adapter !== one.adapter || holdersOf(other) > 0 || followed.has(other.block)) continue;
      if (other.block.kept.tenant !== tenant || !goesAlone(other.block)) continue;
      assert.ok(other.priority >= one.priority, `${one.name} left before ${other.name}`);
    }
  }

  /** With nothing of another tenant's. */
  const goesAlone = (block: KvBlock): boolean =>
    blocks.withFollowing(block).every(({ kept }) => kept.tenant === block.kept.tenant);

  function isBehind(block: KvBlock, other: KvBlock): boolean {
    let at: KvBlock | undefined = block;
    while (at && at !== other) at = at.parent;
    return at === other;
  }

  /** Who gives has his share at least, or asks himself. */
  function assertHasMost(tenant: string, { name, block }: Known): void {
    if (tenant === asking) return;
    const all = held.tenants();
    const own = all.find((each) => each.tenant === tenant)?.bytes ?? 0;
    // pages of all that goes with it are back by now
    const isGone = (other: Known) =>
      other.adapter !== undefined && !other.block.kept.hot && isBehind(other.block, block);
    const given = bytesAs(EXACT) * [...known.values()].filter(isGone).length;
    const share = all.reduce((sum, { bytes }) => sum + bytes, 0) / Math.max(2, all.length);
    assert.ok(own + given >= share, `${name} left for ${asking}, and its tenant had ${own} bytes`);
  }

  /** For this tenant room is made meanwhile. */
  function makingRoom<T>(tenant: string, lease: () => T): T {
    asking = tenant;
    try {
      return lease();
    } finally {
      asking = undefined;
    }
  }

  function touch(chain: readonly KvBlock[], priority = 0, expiresAt = 0): void {
    for (const block of chain.toReversed()) {
      const one = known.get(block);
      assert.ok(one);
      one.priority = Math.max(one.priority, priority);
      one.expiresAt = Math.max(one.expiresAt, expiresAt);
    }
  }

  /** The longest held beginning, as it should be; compared with what is found. */
  function matched(word: Word): readonly KvBlock[] {
    const root = rootFor(word);
    let expected = '';
    const byName = new Map([...known.values()].map((one) => [one.name, one]));
    for (const letter of word.word) {
      const one = byName.get(`${root.scope}/${expected}${letter}`);
      if (!one || one.expiresAt <= now()) break;
      expected += letter;
    }
    const match = blocks.match(root, tokensOf(word.word));
    assert.equal(match.tokens, expected.length * BLOCK_TOKENS);
    assert.equal(match.blocks.length, expected.length);
    return match.blocks;
  }

  function begin(stored: Stored): Intake | undefined {
    const before = matched(stored);
    const letGo = using(before, blocks.hold(before));
    const made = new Map<number, Held>();
    let near = before.at(-1)?.kept.hot?.lease;
    for (let at = before.length; at < stored.word.length; at++) {
      const form = stored.coded ? CODED : EXACT;
      try {
        const before = near;
        near = makingRoom(stored.tenant, () => held.lease({ tenant: stored.tenant, shape: SHAPE, form }, before));
      } catch (error) {
        if (!(error instanceof Problem) || !['capacity_exhausted', 'adapter_unavailable'].includes(error.code))
          throw error;
        break;
      }
      made.set(at, pagesIn(near, form));
    }
    return {
      stored,
      made,
      release() {
        letGo();
        for (const { lease } of made.values()) held.release(lease);
      },
    };
  }

  /** As much of it as there is room for becomes blocks. */
  function keep({ stored, made }: Intake): void {
    const { tenant, word, priority, ttlMs } = stored;
    if ([...made.values()].some(({ lease }) => lease.lost)) return; // the caller is told so
    const wish = { priority, expiresAt: ttlMs === null ? Number.POSITIVE_INFINITY : now() + ttlMs };
    const root = rootFor(stored);
    const chain: KvBlock[] = [];
    for (const [at, letter] of [...word].entries()) {
      const own = tokensOf(letter);
      const parent = chain.at(-1);
      const there = blocks.find(root, parent, own);
      const pages = there ? undefined : made.get(at);
      const kept = { hot: pages, cold: undefined, tenant, grades: { k: undefined, v: undefined } };
      const block = there ?? (pages && blocks.insert(root, parent, own, kept, wish));
      if (!block) break;
      if (pages) made.delete(at);
      if (!there) known.set(block, { ...fresh(`${root.scope}/${word.slice(0, at + 1)}`, block), ...wish });
      chain.push(block);
    }
    blocks.touch(chain, wish);
    touch(chain, wish.priority, wish.expiresAt);
    book.stored(chain, tenant);
    for (const block of chain) known.get(block)?.stakes.add(tenant);
  }

  /** They are in use, and counted so. */
  function using(chain: readonly KvBlock[], release: () => void): () => void {
    const some = chain.flatMap((block) => known.get(block) ?? []);
    for (const one of some) one.readers++;
    return () => {
      for (const one of some) one.readers--;
      release();
    };
  }

  function read(chain: readonly KvBlock[]) {
    const { pages, release } = held.read(chain);
    return { pages, release: using(chain, release) };
  }

  /** Out of its package, near those before it. */
  function bringBack(block: KvBlock): void {
    const { cold } = block.kept;
    if (block.removed || block.kept.hot || !cold || !pool.ready) return;
    try {
      const { tenant } = block.kept;
      const wanted = { tenant, shape: SHAPE, form: cold.form };
      const lease = makingRoom(tenant, () => held.lease(wanted, block.parent?.kept.hot?.lease));
      held.returned(block, pagesIn(lease, cold.form));
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== 'capacity_exhausted') throw error;
    }
  }

  /** Other pages for a block, of the form and in the place that `find` gives. */
  function replace(
    index: number,
    find: (from: Held, tenant: string) => { lease: GpuLease | undefined; form: Form },
  ): void {
    const block = [...blocks.all()][index];
    if (!block?.kept.hot) return;
    const chain = chainTo(block);
    const letGo = using(chain, blocks.hold(chain));
    const { pages, release } = read([block]);
    const [from] = pages;
    const { lease, form } = from
      ? makingRoom(block.kept.tenant, () => find(from, block.kept.tenant))
      : { lease: undefined, form: EXACT };
    if (from && lease) assert.ok(held.replace(block, from, { ...from, lease, form, wanted: form }));
    release();
    letGo();
  }

  function endPins(ended: (pin: Pinned) => boolean): void {
    for (const { tenant, blocks } of pinned.filter(ended))
      for (const { pins } of blocks) {
        const count = pins.get(tenant) ?? 0;
        if (count > 1) pins.set(tenant, count - 1);
        else pins.delete(tenant);
      }
    pinned = pinned.filter((pin) => !ended(pin));
  }

  const sweepPins = () => endPins(({ expiresAt }) => expiresAt <= now());
  const take = <T>(list: T[], index: number): T | undefined => list.splice(index % Math.max(1, list.length), 1)[0];

  function check(): void {
    assert.equal(held.faults().join('; '), '');
    assert.equal(blocks.size, known.size);
    for (const block of blocks.all()) {
      const one = known.get(block);
      assert.ok(one, 'a block is there that should not be');
      const { priority, expiresAt, holders, parent } = block;
      assert.equal(priority, one.priority, one.name);
      assert.equal(expiresAt, one.expiresAt, one.name);
      assert.equal(holders, holdersOf(one), one.name);
      assert.equal(block.kept.hot?.lease.adapter, one.adapter, one.name);
      if (parent)
        assert.ok(known.has(parent) && parent.expiresAt >= expiresAt && parent.priority >= priority, one.name);
      const tenants = book.stakes.tenantsOf(block);
      assert.ok(tenants.includes(block.kept.tenant), `${one.name} is of one who has no stake in it`);
      assert.ok(tenants.length === one.stakes.size && tenants.every((tenant) => one.stakes.has(tenant)), one.name);
    }
    const stats = pins.stats();
    assert.equal(stats.pins, pinned.length);
    assert.equal(
      stats.blocks,
      [...known.values()].reduce((sum, { pins }) => sum + pins.size, 0),
    );
    assert.ok(held.bytes <= Math.max(budget(), bytesBefore), `KV has ${held.bytes} bytes of ${budget()}`);
    bytesBefore = held.bytes;
  }

  return {
    held,
    left,
    store(stored) {
      const intake = begin(stored);
      if (!intake) return;
      if (stored.slow && intakes.length < 2) return void intakes.push(intake);
      keep(intake);
      intake.release();
    },
    arrive(index) {
      const intake = take(intakes, index);
      if (intake) keep(intake);
      intake?.release();
    },
    read(word) {
      const chain = matched(word);
      blocks.touch(chain);
      touch(chain);
      if (chain.length === 0 || reads.length >= 4) return;
      const letGo = using(chain, blocks.hold(chain));
      for (const block of chain) bringBack(block);
      const there = chain.findIndex(({ kept }) => !kept.hot);
      reads.push(read(chain.slice(0, there < 0 ? chain.length : there)));
      letGo();
    },
    endRead: (index) => take(reads, index)?.release(),
    pin(word, ttlMs) {
      const chain = matched(word);
      if (chain.length === 0) return;
      sweepPins();
      const asked = { ...word, scope: scopeFor(word), model: 'm', tokens: tokensOf(word.word) };
      try {
        const { pin, expiresAt } = pins.pin(asked, chain, ttlMs / 1000);
        const some = chain.flatMap((block) => known.get(block) ?? []);
        for (const { pins } of some) pins.set(word.tenant, (pins.get(word.tenant) ?? 0) + 1);
        pinned.push({ ...word, id: pin, expiresAt, blocks: some });
        blocks.touch(chain, { priority: 0, expiresAt });
        touch(chain, 0, expiresAt);
        assert.ok(pins.stats().bytes <= budget() / 2, 'pins have more than they may');
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== 'pins_full') throw error;
      }
    },
    unpin(index, byTokens) {
      const wanted = pinned[index % Math.max(1, pinned.length)];
      if (!wanted) return;
      sweepPins();
      const { tenant, salted, word } = wanted;
      const isSame = (one: Pinned) => one.tenant === tenant && one.salted === salted && one.word === word;
      const [first] = pinned.filter(isSame).toSorted((a, b) => a.expiresAt - b.expiresAt);
      const ends = byTokens ? first : pinned.find(({ id }) => id === wanted.id);
      const asked = { tenant, scope: scopeFor(wanted), model: 'm', tokens: tokensOf(word) };
      const unpin = () => (byTokens ? pins.unpinTokens(asked) : pins.unpin(tenant, wanted.id));
      if (!ends) return assert.throws(unpin, { code: 'pin_unknown' });
      endPins((one) => one === ends);
      assert.equal(unpin(), pinned.filter((one) => one.tenant === tenant).length);
    },
    clear({ tenant, salted, word }, isAll) {
      const salt = salted ? 'salt' : undefined;
      const scope = isAll ? undefined : salt && scopeOf(tenant, salt);
      const beginning = isAll ? '' : word;
      const own = [...known.values()].filter(({ name, stakes }) => {
        const [at = '', letters = ''] = name.split('/');
        return stakes.has(tenant) && (scope === undefined || at === scope) && letters.startsWith(beginning);
      });
      const asked = isAll ? { tenant } : { tenant, model: 'm', salt, prefix: tokensOf(word) };
      const isPinned = pins.isPinned;
      const done = toTheEnd(clear(asked, { blocks, book, isPinned, bytesOf, passOn: held.passOn }));
      for (const { stakes } of own) stakes.delete(tenant);
      assert.equal(done.shared, own.filter(({ stakes }) => stakes.size > 0).length);
      assert.equal(done.blocks, own.length - done.shared);
    },
    recode: (index) =>
      replace(index, (from, tenant) => {
        const wanted = { tenant, shape: SHAPE, form: CODED };
        const isExact = pool.ready && from.form !== CODED;
        return { lease: isExact ? held.leaseNear(from.lease, wanted) : undefined, form: CODED };
      }),
    move(index, adapter) {
      replace(index, ({ form, lease: { adapter: there } }, tenant) => {
        const wanted = { tenant, shape: SHAPE, form };
        if (adapter === undefined) return { form, lease: held.freeLease(wanted) };
        return { form, lease: adapter === there ? undefined : held.leaseNear({ adapter }, wanted) };
      });
    },
    damage(index) {
      const block = [...blocks.all()][index];
      isTold = true;
      if (block) held.damaged(block);
      isTold = false;
    },
    pack(index, bytes, isExact) {
      const block = [...blocks.all()][index];
      if (!block?.kept.hot || block.kept.cold) return;
      const chain = chainTo(block);
      const letGo = using(chain, blocks.hold(chain));
      const { form, wanted } = block.kept.hot;
      const room = held.shelf.reserve({ tenant: block.kept.tenant, bytes: PACKAGE_BYTES_MAX });
      const seals = isExact ? SEALS.words : undefined;
      room?.put(block, { form, wanted, packing: PACKING, means: undefined, layers: [], seals, bytes });
      letGo();
    },
    cool(index) {
      const block = [...blocks.all()][index];
      isTold = true;
      if (block?.holders === 0) held.cool(block);
      isTold = false;
    },
    sweep() {
      sweepPins();
      pins.sweep();
      for (const block of blocks.expired()) blocks.remove(block, 'expired');
      for (const one of known.values()) assert.ok(one.expiresAt > now() || holdersOf(one) > 0, `${one.name} stays`);
    },
    dropLost() {
      isTold = true;
      held.dropLost();
      isTold = false;
    },
    check,
    end() {
      for (const intake of intakes.splice(0)) intake.release();
      for (const read of reads.splice(0)) read.release();
      clock.now += 1e9;
      this.sweep();
      for (const tenant of ['t', 'u']) this.clear({ tenant, salted: false, word: '' }, true);
      check();
      assert.deepEqual([blocks.size, held.bytes, held.shelf.bytes, pins.stats().pins], [0, 0, 0, 0]);
      left.set('cooled' as KvCause, held.demotions);
    },
  };
}

function chainTo(block: KvBlock): KvBlock[] {
  const chain: KvBlock[] = [];
  for (let at: KvBlock | undefined = block; at; at = at.parent) chain.unshift(at);
  return chain;
}

function toTheEnd<R>(steps: Iterator<unknown, R, void>): R {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}
const bytesAs = (form: Form): number => pageBytes(SHAPE, form) * SHAPE.layers;
const pagesIn = (lease: GpuLease, form: Form): Held => ({
  ...{ lease, form, wanted: form, means: undefined, seals: SEALS, packing: PACKING },
});

const fresh = (name: string, block: KvBlock) => ({
  ...{
    name,
    block,
    adapter: block.kept.hot?.lease.adapter,

    readers: 0,
    stakes: new Set<string>(),
    pins: new Map<string, number>(),
  },
});

/** Of a letter, or of each of a word's. */
const LETTERS = new Map<string, Int32Array>();
function tokensOf(word: string): Int32Array {
  const known = LETTERS.get(word);
  if (known) return known;
  const tokens = Int32Array.from({ length: word.length * BLOCK_TOKENS }, (_, at) =>
    word.charCodeAt(Math.floor(at / BLOCK_TOKENS)),
  );
  LETTERS.set(word, tokens);
  return tokens;
}
