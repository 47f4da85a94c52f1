// Any order of storing, looking up, pinning, turning the clock, clearing, recoding, moving and losing, by two tenants with and without
// a salt that they share, on real adapters with little room and with more: what is held is what a list of paths says, each tenant's events
// tell just what is its own, pins keep what they hold, the budget is kept, and the engine's own check finds nothing.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KvTarget } from '../../../../core/cache/kv/calls.ts';
import type { KvNumberedEvent } from '../../../../core/contract/kv-calls.ts';
import { Problem } from '../../../../core/contract/problems.ts';
import { joinParts, type TensorData, tensorParts } from '../../../../core/contract/tensors.ts';
import { SOURCE } from '../../../support/adapters.ts';
import { bodyOf, type Engine, patience, startEngine } from '../../../support/engine.ts';
import { seeded } from '../../../support/seeded.ts';

const ROUNDS = Number(process.env.CACHE_ROUNDS ?? 300);
const DIM = 64;
const BLOCK_BYTES = 2 * DIM * 64 * 2;
const MEMORY = 2 * 128 * 2 ** 20;
const TENANTS = ['a', 'b'] as const;
const LETTERS = ['x', 'y', 'z'] as const;

/** A block is a letter 64 times: a sequence is a word. */
const tokensOf = (word: string): Int32Array =>
  Int32Array.from({ length: word.length * 64 }, (_, i) => word.charCodeAt(Math.floor(i / 64)));

interface Owner {
  readonly tenant: string;
  readonly salt: string | undefined;
}

interface Kept {
  readonly hash: string;
  readonly owners: Set<string>;
  expiresAt: number;
}

interface Pin extends Owner {
  readonly id: string;
  readonly word: string;
  /** As far as it holds. */
  held: string;
  readonly expiresAt: number;
}

const placeOf = ({ tenant, salt }: Owner, word: string): string => `${salt ?? `(${tenant})`} ${word}`;
const begins = (word: string): string[] => [...word].map((_, i) => word.slice(0, i + 1));

/** What should be held, by place. */
function createModel() {
  const kept = new Map<string, Kept>();
  const pins = new Map<string, Pin>();
  const isPinned = (place: string): boolean =>
    [...pins.values()].some((pin) => begins(pin.held).some((word) => placeOf(pin, word) === place));
  const model = {
    kept,
    pins,
    isPinned,
    held(owner: Owner, word: string): string {
      const missing = begins(word).find((each) => !kept.has(placeOf(owner, each)));
      return missing === undefined ? word : missing.slice(0, -1);
    },
    store(owner: Owner, word: string, hashes: readonly string[], expiresAt: number) {
      for (const [i, hash] of hashes.entries()) {
        const place = placeOf(owner, word.slice(0, i + 1));
        const one = kept.get(place) ?? { hash, owners: new Set(), expiresAt };
        assert.equal(one.hash, hash);
        one.owners.add(owner.tenant);
        one.expiresAt = Math.max(one.expiresAt, expiresAt);
        kept.set(place, one);
      }
    },
    pin(pin: Pin) {
      pins.set(pin.id, pin);
      for (const word of begins(pin.held)) {
        const one = kept.get(placeOf(pin, word));
        if (one) one.expiresAt = Math.max(one.expiresAt, pin.expiresAt);
      }
    },
    turn(now: number) {
      for (const pin of pins.values()) if (pin.expiresAt <= now) pins.delete(pin.id);
      for (const [place, { expiresAt }] of kept) if (expiresAt <= now) kept.delete(place);
    },
    clear({ tenant, salt }: Owner, prefix: string) {
      const done = { blocks: 0, pinned: 0, shared: 0 };
      const gone: string[] = [];
      for (const [place, { owners }] of kept) {
        const [scope = '', word = ''] = place.split(' ');
        if (!owners.has(tenant) || !word.startsWith(prefix) || (salt !== undefined && scope !== salt)) continue;
        owners.delete(tenant);
        if (owners.size > 0) done.shared++;
        else {
          done.blocks++;
          if (isPinned(place)) done.pinned++;
          gone.push(place);
        }
      }
      for (const place of gone) kept.delete(place);
      for (const pin of pins.values())
        while (begins(pin.held).some((word) => gone.includes(placeOf(pin, word)))) pin.held = pin.held.slice(0, -1);
      return done;
    },
    /** Blocks that pins hold, for each tenant. */
    pinned: () =>
      new Set(
        [...pins.values()].flatMap((pin) => begins(pin.held).map((word) => `${pin.tenant} ${placeOf(pin, word)}`)),
      ).size,
    of: (tenant: string) =>
      new Set([...kept.values()].flatMap(({ hash, owners }) => (owners.has(tenant) ? [hash] : []))),
  };
  return model;
}

/** A tenant's blocks, as its events tell. */
function createMirror({ kv }: Engine, tenant: string) {
  const hashes = new Set<string>();
  let last = 0;
  return {
    hashes,
    /** What has come since; those that were evicted. */
    async read(): Promise<string[]> {
      const evicted: string[] = [];
      const follow = kv.follow(tenant, last, 1, patience());
      await follow.next();
      for await (const event of follow) {
        if (typeof event === 'number') break;
        if (last > 0) assert.equal(event.id, last + 1, 'a number is missing');
        last = event.id;
        apply(event);
        if (event.type === 'BlockRemoved' && event.cause === 'evicted') evicted.push(event.hash);
      }
      return evicted;
    },
  };
  function apply(event: KvNumberedEvent): void {
    if (event.type === 'BlockStored') for (const hash of event.hashes) hashes.add(hash);
    if (event.type === 'BlockRemoved') assert.ok(hashes.delete(event.hash), `${event.hash} was removed twice`);
    if (event.type === 'AllBlocksCleared') hashes.clear();
    assert.notEqual(event.type, 'gap');
  }
}

for (const { room, coldBytesMax, where } of [
  { room: 24, coldBytesMax: 0, where: 'where there is little room' },
  { room: 2000, coldBytesMax: 64 << 20, where: 'with memory to move to' },
])
  test(`any order of calls agrees with a list of paths, and with what is told of it, ${where}`, async (t) => {
    const random = seeded();
    const engine = await startEngine(t, {
      pool: { adapters: [SOURCE, SOURCE] },
      kv: { window: { firstBlocks: 0, lastBlocks: 0 }, share: (room * BLOCK_BYTES) / MEMORY, coldBytesMax },
    });
    const { kv, clock } = engine;
    const model = createModel();
    const mirrors = TENANTS.map((tenant) => ({ tenant, mirror: createMirror(engine, tenant) }));
    const owner = (): Owner => ({ tenant: random.pick(TENANTS), salt: random.below(2) === 0 ? 's' : undefined });
    const word = () => Array.from({ length: 1 + random.below(5) }, () => random.pick(LETTERS)).join('');
    const ask = (who: Owner, text: string) => ({ ...who, model: 'm', tokens: tokensOf(text) });
    const refused = (error: unknown): string => {
      assert.ok(error instanceof Problem, String(error));
      return error.code;
    };

    function send(who: Owner, text: string, ttl: number | undefined) {
      const { tokens, ...asked } = ask(who, text);
      const shape = [1, 1, tokens.length, DIM];
      const data = random.bytes(tokens.length * DIM * 2);
      const ids: TensorData = {
        name: 'tokens',
        dtype: 'I32',
        shape: [tokens.length],
        data: new Uint8Array(tokens.buffer),
      };
      const part = (name: string): TensorData => ({ name, dtype: 'F16', shape, data });
      const file = joinParts(tensorParts([ids, part('k'), part('v')]));
      const body = { chunks: bodyOf(file), length: file.length };
      const more = { codecK: 'raw', codecV: 'raw', priority: random.below(101), digest: undefined };
      return kv.store({ ...asked, ...more, ttl, body, signal: patience() });
    }

    /** Who was evicted leaves the list; nobody who is pinned is. */
    async function catchUp(): Promise<void> {
      for (const { mirror } of mirrors)
        for (const hash of await mirror.read()) {
          const [place] = [...model.kept].find(([, one]) => one.hash === hash) ?? [];
          if (place === undefined) continue; // the other tenant was told of it too
          assert.ok(!model.isPinned(place), `${place} was pinned, and evicted`);
          model.kept.delete(place);
        }
    }

    const deeds: Record<string, () => Promise<void> | void> = {
      async store() {
        const [who, text] = [owner(), word()];
        const ttl = random.below(3) === 0 ? undefined : 1 + random.below(100);
        const answer = await send(who, text, ttl).catch((error: unknown) => {
          assert.equal(refused(error), 'capacity_exhausted');
        });
        await catchUp();
        const expiresAt = ttl === undefined ? Number.POSITIVE_INFINITY : clock.now + ttl * 1000;
        model.store(who, text, answer?.blocks.map(({ hash }) => hash) ?? [], expiresAt);
      },
      pin() {
        const [who, text] = [owner(), word()];
        const held = model.held(who, text);
        const ttl = 1 + random.below(60);
        try {
          const { pin, pinnedBlocks } = kv.pin({ ...ask(who, text), ttl });
          assert.equal(pinnedBlocks, held.length);
          model.pin({ ...who, id: pin, word: text, held, expiresAt: clock.now + ttl * 1000 });
        } catch (error) {
          assert.equal(refused(error), held === '' ? 'kv_unknown' : 'pins_full');
        }
      },
      unpin() {
        const [pin] = [...model.pins.values()].toSorted((a, b) => a.expiresAt - b.expiresAt);
        if (!pin) return;
        const { tenant, salt, word } = pin;
        const byTokens = random.below(2) === 0;
        const { pins } = kv.unpin(byTokens ? ask({ tenant, salt }, word) : { tenant, pin: pin.id });
        model.pins.delete(pin.id); // of several for the same tokens, the one that ends first
        assert.equal(pins, [...model.pins.values()].filter((each) => each.tenant === tenant).length);
      },
      async turn() {
        clock.now += random.below(40_000);
        await kv.sweep();
        model.turn(clock.now);
      },
      async clear() {
        const who = owner();
        const prefix = random.below(3) === 0 ? '' : word().slice(0, 3);
        const narrowed = prefix === '' ? {} : { model: 'm', prefix: tokensOf(prefix) };
        const { bytes, ...counts } = await kv.clear({ ...who, ...narrowed });
        assert.deepEqual(counts, model.clear(who, prefix));
        if (coldBytesMax === 0) assert.equal(bytes, counts.blocks * BLOCK_BYTES);
      },
      async recode() {
        const [who, text] = [owner(), word()];
        const codec = random.pick(['f16', 'bf16', 'raw']);
        const asked = kv.recode({ ...ask(who, text), codecK: codec, codecV: codec, signal: patience() });
        const held = model.held(who, text);
        const done = await asked.catch((error: unknown) => {
          assert.deepEqual([refused(error), held], ['kv_unknown', '']);
        });
        if (done) assert.equal(done.matchedTokens, held.length * 64);
      },
      async move() {
        const [who, text] = [owner(), word()];
        const held = model.held(who, text);
        const to = random.pick<KvTarget>([
          { adapter: 'adapter-0' },
          { adapter: 'adapter-1' },
          { tier: 'cold' },
          { tier: 'hot' },
        ]);
        const done = await kv.move({ ...ask(who, text), to, signal: patience() }).catch((error: unknown) => {
          assert.deepEqual([refused(error), held], ['kv_unknown', '']);
        });
        if (done)
          assert.equal(done.moved + done.already + done.left.noRoom + done.left.others + done.left.gone, held.length);
      },
    };
    deeds.prefetch = async () => {
      const [who, text] = [owner(), word()];
      const held = model.held(who, text);
      const done = await kv.prefetch({ ...ask(who, text), signal: patience() }).catch((error: unknown) => {
        assert.deepEqual([refused(error), held], ['kv_unknown', '']);
      });
      if (done) assert.equal(done.returned + done.already + done.left, held.length);
    };
    const names = ['store', 'store', 'store', 'store', ...Object.keys(deeds)] as [string, ...string[]];

    for (let round = 0; round < ROUNDS; round++) {
      const name = random.pick(names);
      await deeds[name]?.();
      await catchUp();
      const at = `round ${round}, ${name} (SEED=${random.seed})`;
      for (const { tenant, mirror } of mirrors) assert.deepEqual(mirror.hashes, model.of(tenant), at);
      const { blocks, bytes, pinned, tiers } = kv.stats();
      assert.deepEqual([blocks, pinned.pins, pinned.blocks], [model.kept.size, model.pins.size, model.pinned()], at);
      assert.equal(bytes, (blocks - tiers.cold.blocks) * BLOCK_BYTES, at);
      assert.ok(bytes <= room * BLOCK_BYTES, at);
      const [who, text] = [owner(), word()];
      const found = kv.lookup({ ...ask(who, text), explain: true, use: random.below(2) === 0, layout: {} });
      assert.equal(found.matchedTokens, model.held(who, text).length * 64, at);
      assert.equal(found.explain === null, found.matchedTokens === text.length * 64, at);
      assert.deepEqual([...kv.check(), ...engine.cache.check()], [], at);
    }
    await engine.assertIdle();
  });
