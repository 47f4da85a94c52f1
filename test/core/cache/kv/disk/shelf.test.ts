// The disk shelf below the calls, on real files and without an adapter: packages made by hand go to memory, to disk, and come back as
// they were, over restarts, torn and flipped files, disks that fail and budgets that are short. Whatever happens, no wrong byte is
// read, the files never take more than their budget, and what was cleared is not found again.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { type Root, rootOf, withParents } from '../../../../../core/cache/kv/blocks.ts';
import { restore } from '../../../../../core/cache/kv/disk/restore.ts';
import { openKvDisk } from '../../../../../core/cache/kv/disk/shelf.ts';
import { createSpill } from '../../../../../core/cache/kv/disk/spill.ts';
import { createHeldPages, type HeldPages, type KvBlock } from '../../../../../core/cache/kv/held.ts';
import type { Package } from '../../../../../core/cache/kv/packages.ts';
import { createStakes } from '../../../../../core/cache/kv/stakes.ts';
import { checksumOf } from '../../../../../core/codec/checksum.ts';
import type { Disk } from '../../../../../core/store/disk.ts';
import { realDisk } from '../../../../../core/store/disk.ts';
import { type Fault, faultyDisk } from '../../../../support/faulty-disk.ts';
import { folder } from '../../../../support/folders.ts';
import { type Seeded, seeded } from '../../../../support/seeded.ts';
import { until } from '../../../../support/until.ts';

const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };
const ROOTS = [
  rootOf('tenant t', 'model', SHAPE, 64),
  rootOf('salt s', 'model', SHAPE, 64, { theta: 10_000, scale: 1, pairs: 'halves', dims: 64 }),
];
const WISH = { priority: 50, expiresAt: Number.POSITIVE_INFINITY };
const ROUNDS = Number(process.env.DISK_ROUNDS ?? 3);

const tokensOf = (number: number): Int32Array => new Int32Array(64).fill(number);

/** What the block of this name has: its bytes follow from it. */
function packageFor(hash: string): Package {
  const bytes = (part: string): Uint8Array<ArrayBuffer> => {
    const digest = createHash('sha256')
      .update(hash + part)
      .digest();
    const count = 64 + 4 * digest.readUInt8(0) * (1 + (digest.readUInt8(1) % 4));
    return Uint8Array.from({ length: count }, (_, i) => digest[i % 32] ?? 0);
  };
  const packed = (part: string) => {
    const own = bytes(part);
    return { how: 'records', bytes: own, seal: checksumOf(new Uint32Array(own.buffer)) } as const;
  };
  const [k, v] = [packed('k'), packed('v')];
  return {
    ...{ form: { k: 'f16', v: 'tq4' }, wanted: { k: 'tq4', v: 'tq4' }, packing: { k: 'lossless', v: 'lossless' } },
    means: { values: Float32Array.from({ length: 64 }, (_, i) => i / 64) },
    layers: [{ k, v }],
    seals: Uint32Array.from([1, 2, 3, 4]),
    bytes: k.bytes.length + v.bytes.length + 3 * 16,
  } as const;
}

interface World {
  readonly held: HeldPages;
  readonly spill: ReturnType<typeof createSpill>;
  readonly stakes: ReturnType<typeof createStakes>;
  /** A chain of blocks by their numbers, those that are new into memory. */
  put(root: number, numbers: readonly number[], tenant?: string): KvBlock[];
  find(root: number, numbers: readonly number[]): KvBlock[];
  settled(): Promise<void>;
}

async function open(path: string, bytesMax: number, coldBytesMax = 1 << 20, disk: Disk = realDisk): Promise<World> {
  const kvDisk = await openKvDisk(path, bytesMax, disk);
  const stakes = createStakes();
  const nothing = () => {};
  const never = () => assert.fail('no adapter is there');
  const held: HeldPages = createHeldPages({
    pool: { ready: false, capacityBytes: 0, places: () => [], lease: never, reportOf: never },
    ...{ share: 0.5, makeRoom: () => false, coldBytesMax, now: () => 0, disk: kvDisk },
    ...{ leased: nothing, left: stakes.drop, moved: nothing, packed: () => spill.wake(), tenantsOf: stakes.tenantsOf },
  });
  const spill = createSpill(held);
  const { blocks } = held;
  const stored = (block: KvBlock, tenant: string) => void stakes.take([block], tenant);
  restore({ found: kvDisk.found, segments: held.disk.segments, blocks, stored, now: () => 0 });
  const rootAt = (root: number) => ROOTS[root] ?? assert.fail();

  /** In memory; undefined where that has no room. */
  function make(root: Root, before: KvBlock | undefined, tokens: Int32Array, tenant: string): KvBlock | undefined {
    const made = packageFor(blocks.nameOf(root, before, tokens));
    const release = blocks.hold(before ? withParents(before) : []);
    const room = held.shelf.reserve({ tenant, bytes: made.bytes });
    release();
    if (!room) return undefined;
    const kept = { hot: undefined, cold: undefined, tenant, grades: { k: 'ec:4b', v: undefined } };
    const block = blocks.insert(root, before, tokens, kept, WISH);
    room.put(block, made);
    room.release();
    return block;
  }

  return {
    held,
    spill,
    stakes,
    put(root, numbers, tenant = 't') {
      const chain: KvBlock[] = [];
      for (const number of numbers) {
        const before = chain.at(-1);
        const known = blocks.find(rootAt(root), before, tokensOf(number));
        const block = known ?? make(rootAt(root), before, tokensOf(number), tenant);
        if (!block) break;
        chain.push(block);
      }
      stakes.take(chain, tenant);
      blocks.touch(chain.filter(({ removed }) => !removed));
      return chain;
    },
    find: (root, numbers) => [
      ...blocks.match(rootAt(root), Int32Array.from(numbers.flatMap((number) => [...tokensOf(number)]))).blocks,
    ],
    async settled() {
      await spill.settled();
      await held.disk.settled();
    },
  };
}

const sizeOf = (path: string): number =>
  readdirSync(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);

/** Read from disk, it is what it was made of. */
async function assertRead({ held }: World, block: KvBlock, what = ''): Promise<void> {
  const found = await held.disk.read(block);
  assert.deepEqual(found, packageFor(block.hash), what);
}

const all = ({ held }: World): KvBlock[] => [...held.blocks.all()];
const start = (t: TestContext) => join(folder(t), 'kv');

test('what is written is found after a restart, as it was, with those who stored it', async (t) => {
  const path = start(t);
  const first = await open(path, 1 << 20);
  const chain = first.put(0, [1, 2, 3]);
  const other = first.put(1, [1, 2, 4], 'u');
  first.put(1, [1, 2], 't');
  await first.held.disk.write([...chain, ...other]);
  for (const block of [...chain, ...other]) await assertRead(first, block);
  assert.deepEqual(first.held.faults(), []);

  const again = await open(path, 1 << 20);
  const found = again.find(0, [1, 2, 3]);
  assert.deepEqual(
    found.map(({ hash, kept }) => [hash, kept.cold, kept.grades]),
    chain.map(({ hash }) => [hash, undefined, { k: 'ec:4b', v: undefined }]),
  );
  for (const block of [...found, ...again.find(1, [1, 2, 4])]) await assertRead(again, block);
  assert.deepEqual(
    again.find(1, [1, 2, 4]).map((block) => again.stakes.tenantsOf(block).sort()),
    [['t', 'u'], ['t', 'u'], ['u']],
  );
  assert.equal(again.find(1, [1, 2, 4])[0]?.root.rope?.theta, 10_000);
  assert.deepEqual(again.held.tiers().disk.blocks, 6);
  assert.deepEqual(again.held.faults(), []);
});

test('what was cleared is not found again, and its bytes and tokens are off the disk before that is told', async (t) => {
  const path = start(t);
  const world = await open(path, 1 << 20);
  const chain = world.put(0, [7, 8, 9]);
  const kept = world.put(0, [7, 5]);
  await world.held.disk.write([...chain, ...kept]);
  const [, cleared] = chain;
  assert.ok(cleared);
  const bytes = packageFor(cleared.hash).layers[0]?.k.bytes ?? assert.fail();
  const isThere = () => readdirSync(path).some((name) => readFileSync(join(path, name)).includes(Buffer.from(bytes)));
  assert.ok(isThere());
  world.held.blocks.remove(cleared, 'cleared');
  await world.held.disk.wiped();
  assert.ok(!isThere());
  assert.ok(!readdirSync(path).some((name) => readFileSync(join(path, name)).includes(cleared.hash)));
  const again = await open(path, 1 << 20);
  assert.deepEqual([again.find(0, [7, 8, 9]).length, again.find(0, [7, 5]).length], [1, 2]);
  for (const block of all(again)) await assertRead(again, block);
  for (const block of all(again)) again.held.blocks.remove(block, 'cleared');
  await again.held.disk.wiped();
  assert.deepEqual(readdirSync(path), [], 'a segment of which nothing is left goes');
});

test('a budget of nothing writes nothing, and takes away what is there; a smaller one costs the oldest', async (t) => {
  const path = start(t);
  const world = await open(path, 2 << 20);
  for (let number = 0; number < 300; number++) await world.held.disk.write(world.put(0, [number]));
  const most = sizeOf(path);
  const less = await open(path, most / 2);
  assert.ok(sizeOf(path) <= most / 2 && less.held.disk.stats().records > 60);
  assert.equal(less.find(0, [0]).length, 0);
  for (const block of less.find(0, [299])) await assertRead(less, block);
  const none = await open(path, 0);
  assert.deepEqual([readdirSync(path), none.held.disk.stats().records], [[], 0]);
  await none.held.disk.write(none.put(0, [1]));
  assert.deepEqual(readdirSync(path), []);
});

test('the oldest leave a disk that is full, but for what came back and for what others follow', async (t) => {
  const path = start(t);
  const bytesMax = 512 << 10;
  const world = await open(path, bytesMax, 64 << 10);
  const trunk = world.put(0, [1, 2]);
  await world.held.disk.write(trunk);
  const used = world.put(0, [1, 2, 3]);
  await world.held.disk.write(used);
  for (let number = 100; number < 1200; number++) {
    await world.held.disk.write(world.put(0, [1, 2, number])); // memory has room for a few
    await world.settled();
    const [, , third] = world.find(0, [1, 2, 3]);
    if (third?.kept.disk && number % 10 === 0) await assertRead(world, third);
    assert.ok(sizeOf(path) <= bytesMax, `${sizeOf(path)} bytes after ${number}`);
  }
  await world.settled();
  const { evictions, copied, bytesMost } = world.held.disk.stats();
  assert.ok(evictions > 100 && copied > 0 && bytesMost <= bytesMax);
  assert.equal(world.find(0, [1, 2, 3]).length, 3, 'it is used again and again, and follows the trunk');
  assert.equal(world.find(0, [1, 2, 100]).length, 2, 'nobody asked for it');
  assert.deepEqual(world.held.faults(), []);
});

test('who floods the disk pushes its own out, and nothing of who is within its share', async (t) => {
  const path = start(t);
  const world = await open(path, 256 << 10, 64 << 10);
  for (let number = 0; number < 10; number++) await world.held.disk.write(world.put(0, [number], 'small'));
  for (let number = 100; number < 600; number++) {
    await world.held.disk.write(world.put(0, [number], 'large'));
    await world.settled();
  }
  const found = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => world.find(0, [from + i]).length).filter((length) => length > 0).length;
  assert.deepEqual([found(0, 10), found(100, 100)], [10, 0]);
  assert.ok(found(500, 100) > 40 && world.held.disk.stats().evictions > 300);
  assert.deepEqual(world.held.faults(), []);
  const again = await open(path, 256 << 10);
  for (let number = 0; number < 10; number++)
    for (const block of again.find(0, [number])) assert.equal(block.kept.tenant, 'small');
  assert.deepEqual(again.held.faults(), []);
});

test('a block stays on a full disk as long as what follows it is in memory', async (t) => {
  const world = await open(start(t), 256 << 10, 64 << 10);
  const [first, second] = world.put(0, [1, 2]);
  assert.ok(first && second);
  await world.held.disk.write([first]);
  assert.ok(world.held.sink(first) && !world.held.sink(second));
  for (let number = 100; number < 400; number++) {
    const release = world.held.blocks.hold([second]);
    await world.held.disk.write(world.put(0, [number]));
    await world.settled();
    release();
    if (second.kept.disk) world.held.disk.drop(second);
    assert.deepEqual([first.removed, second.removed], [false, false], `after ${number}`);
  }
  await assertRead(world, first);
  assert.ok(world.held.disk.stats().evictions > 100);
});

test('who leaves a block while its line is on its way has not stored it after a restart', async (t) => {
  for (const moment of ['append', 'wipe']) {
    const path = start(t);
    let during = () => {};
    const disk: Disk = {
      ...realDisk,
      open(name, how) {
        if (name.endsWith('.data')) during();
        return realDisk.open(name, how);
      },
    };
    const world = await open(path, 1 << 20, 1 << 20, disk);
    const [block] = world.put(1, [1], 't');
    world.put(1, [1], 'u');
    const [other] = world.put(1, [2], 't');
    assert.ok(block && other);
    const leaves = () => {
      during = () => {};
      world.stakes.leave(block, 't');
      world.held.disk.noted(block);
    };
    if (moment === 'append') during = leaves;
    await world.held.disk.write([block, other]);
    if (moment === 'wipe') {
      during = leaves;
      world.held.disk.drop(other);
    }
    await world.settled();
    await world.held.disk.wiped();
    const again = await open(path, 1 << 20);
    const found = again.find(1, [1]).map((one) => again.stakes.tenantsOf(one));
    assert.deepEqual(found, [['u']], moment);
  }
});

test('a record that was copied is not found again by its first copy, where that could not be removed at once', async (t) => {
  const path = start(t);
  let refusals = 0;
  const disk: Disk = {
    ...realDisk,
    async remove(name) {
      if (refusals-- > 0) throw new Error('EIO: injected');
      return realDisk.remove(name);
    },
  };
  const world = await open(path, 256 << 10, 1 << 20, disk); // memory has the others throughout
  const [first, second] = world.put(0, [1, 2]);
  assert.ok(first && second);
  await world.held.disk.write([first]);
  const place = first.kept.disk;
  assert.ok(world.held.sink(first));
  for (let number = 100; first.kept.disk === place; number++) {
    refusals = 1;
    const release = world.held.blocks.hold([second]);
    await world.held.disk.write(world.put(0, [number]));
    release();
  }
  refusals = 0;
  world.held.blocks.remove(first, 'cleared');
  await world.held.disk.wiped();
  const again = await open(path, 256 << 10);
  assert.equal(again.find(0, [1]).length, 0);
});

test('a segment that goes with what was cleared is off its folder before that is told', async (t) => {
  const path = start(t);
  const seen: string[] = [];
  const disk: Disk = {
    ...realDisk,
    async syncFolder(name) {
      seen.push(`${name === path} ${readdirSync(name).length}`);
      return realDisk.syncFolder(name);
    },
  };
  const world = await open(path, 1 << 20, 1 << 20, disk);
  const [block] = world.put(0, [1]);
  assert.ok(block);
  await world.held.disk.write([block]);
  world.held.blocks.remove(block, 'cleared');
  await world.held.disk.wiped();
  assert.equal(seen.at(-1), 'true 0');
});

test('what could not be wiped is, as soon as the disk lets it', async (t) => {
  const path = start(t);
  let isBroken = false;
  const disk: Disk = {
    ...realDisk,
    async remove(name) {
      if (isBroken) throw new Error('EIO: injected');
      return realDisk.remove(name);
    },
  };
  const world = await open(path, 1 << 20, 1 << 20, disk);
  const [block] = world.put(0, [1]);
  assert.ok(block);
  await world.held.disk.write([block]);
  isBroken = true;
  world.held.blocks.remove(block, 'cleared');
  await assert.rejects(world.held.disk.wiped(), { code: 'disk_failed' });
  await world.settled();
  isBroken = false;
  await until(() => readdirSync(path).length === 0, 'its segment is gone');
});

test('what is copied is within the budget too, on a disk that a start has found full', async (t) => {
  const path = start(t);
  const world = await open(path, 2 << 20);
  for (let number = 0; number < 300; number++) await world.held.disk.write(world.put(0, [number]));
  const bytesMax = sizeOf(path);
  const again = await open(path, bytesMax);
  for (const block of all(again)) await again.held.disk.read(block); // it came back, and is worth a copy
  for (let number = 300; number < 320; number++) await again.held.disk.write(again.put(0, [number]));
  const { bytesMost, evictions } = again.held.disk.stats();
  assert.ok(evictions > 0 && bytesMost <= bytesMax, `${bytesMost} bytes of ${bytesMax}`);
  assert.deepEqual(again.held.faults(), []);
});

test('packages that leave memory are on disk by then, and are written ahead of need', async (t) => {
  const path = start(t);
  const world = await open(path, 4 << 20, 64 << 10);
  for (let number = 0; number < 300; number++) {
    world.put(0, [number]);
    await world.settled();
    assert.ok(world.held.shelf.bytes <= 64 << 10);
  }
  const found = Array.from({ length: 300 }, (_, number) => world.find(0, [number]).length);
  assert.ok(!found.includes(0), 'none is forgotten');
  assert.ok(world.held.tiers().disk.blocks > 200 && world.held.evictions === 0);
  for (const block of all(world)) if (!block.kept.cold) await assertRead(world, block);
});

/** As a kill at this moment would leave it. */
function image(t: TestContext, path: string): string {
  const to = start(t);
  cpSync(path, to, { recursive: true });
  return to;
}

/** Turns one bit over, or cuts the end off, of one of the files. */
function damage(path: string, random: Seeded): void {
  const names = readdirSync(path);
  const name = names[random.below(names.length)];
  if (name === undefined) return;
  const file = join(path, name);
  const bytes = readFileSync(file);
  const at = random.below(bytes.length);
  bytes[at] = (bytes[at] ?? 0) ^ (1 << random.below(8));
  if (random.below(2) === 0) truncateSync(file, at);
  else writeFileSync(file, bytes);
}

test('torn and flipped files cost what is torn and flipped, and never serve it', async (t) => {
  const random = seeded();
  const path = start(t);
  const world = await open(path, 1 << 20);
  for (let i = 0; i < 40; i++) await world.held.disk.write(world.put(0, [i % 6, 10 + (i % 20), i]));
  const count = world.held.disk.stats().records;
  let left = 0;
  const rounds = ROUNDS * 8;
  for (let round = 0; round < rounds; round++) {
    const copy = image(t, path);
    damage(copy, random);
    const again = await open(copy, 1 << 20);
    for (const block of all(again)) {
      const found = block.removed ? undefined : await again.held.disk.read(block);
      if (found) assert.deepEqual(found, packageFor(block.hash), `round ${round}, SEED=${random.seed}`);
      else assert.ok(block.removed, 'what cannot be read is forgotten, with what follows it');
    }
    left += again.held.disk.stats().records;
    await again.settled();
    const after = await open(copy, 1 << 20);
    for (const block of all(after)) await assertRead(after, block, `what is left is whole: SEED=${random.seed}`);
    assert.deepEqual(after.held.faults(), []);
  }
  assert.ok(left > 0.5 * rounds * count, `${left} of ${rounds * count} are left`);
});

const FAULTS: Fault[] = ['short write', 'full', 'failed write', 'failed read', 'flipped read', 'failed sync'];

test('any order of writes, reads, clears, faults and kills keeps budget and bytes, and forgets for good what is cleared', async (t) => {
  const random = seeded();
  for (let round = 0; round < ROUNDS; round++) {
    let path = start(t);
    const bytesMax = 96 << 10;
    const disk = faultyDisk();
    let world = await open(path, bytesMax, 24 << 10, disk);
    /** Cleared, and not stored since. */
    const cleared = new Set<string>();
    const where = () => `round ${round}, SEED=${random.seed}`;
    const word = () => Array.from({ length: 1 + random.below(4) }, () => random.below(5));
    for (let step = 0; step < 100; step++) {
      const isFaulty = random.below(4) === 0;
      disk.fault = isFaulty
        ? () => (random.below(3) === 0 ? random.pick(FAULTS as [Fault]) : undefined)
        : () => undefined;
      const some = all(world)[random.below(world.held.blocks.size + 1)];
      const act = random.below(10);
      if (act < 5) {
        const chain = world.put(random.below(2), word());
        for (const { hash, removed } of chain) if (!removed) cleared.delete(hash);
        if (act < 3) await world.held.disk.write(chain);
      } else if (act < 7 && some) {
        const found = await world.held.disk.read(some);
        if (found) assert.deepEqual(found, packageFor(some.hash), where());
      } else if (act === 7 && some) {
        const gone = all(world).filter((block) => isBehind(block, some));
        world.held.blocks.remove(some, 'cleared');
        const isWiped = await world.held.disk.wiped().then(
          () => true,
          () => false,
        );
        if (isWiped) for (const { hash } of gone) cleared.add(hash);
      } else if (act === 8) {
        disk.fault = () => undefined;
        await world.settled();
        path = random.below(2) === 0 ? image(t, path) : path;
        world = await open(path, bytesMax, 24 << 10, disk);
        for (const { hash } of all(world)) assert.ok(!cleared.has(hash), `${hash} is back: ${where()}`);
      } else world.held.shelf.reserve({ tenant: 't', bytes: 16 << 10 })?.release();
      assert.ok(sizeOf(path) <= bytesMax, where());
      await world.settled();
      assert.deepEqual(world.held.faults(), [], where());
    }
  }
});

function isBehind(block: KvBlock, first: KvBlock): boolean {
  for (let one: KvBlock | undefined = block; one; one = one.parent) if (one === first) return true;
  return false;
}
