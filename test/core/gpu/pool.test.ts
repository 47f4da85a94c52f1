// Adapters as they are: processes that hold bytes, die, hang, are started again, and leave nothing behind. Everything runs
// on the software adapter from npm, over both ways in which payloads reach a process.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { candidate } from '../../../core/gpu/adapters.ts';
import { PAGE_BYTES } from '../../../core/gpu/arena.ts';
import { type DeviceLink, startDevice } from '../../../core/gpu/device-link.ts';
import type { GpuLease } from '../../../core/gpu/gpu-lease.ts';
import { PIECE_BYTES, type Piece, type Pieces, privatePiece } from '../../../core/gpu/pieces.ts';
import {
  adapterProcesses,
  cpuSeconds,
  driverFolder,
  hasProc,
  hasSwiftshader,
  isAlive,
  piecesFor,
  SOURCE,
  startPool,
  statusMiB,
  type TestPool,
} from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { folder } from '../../support/folders.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const procOnly = { skip: !hasProc && 'there is no /proc here' };
const driverOnly = { skip: !hasSwiftshader && 'npm has no software adapter for this platform' };
const ODD_SIZES = [1, 2, 3, 4, 5, 65_535, 65_536, 65_537, 131_071, PIECE_BYTES - 1, PIECE_BYTES];

/** The bytes of a lease through a piece that held something else before. */
async function readBack(pieces: Pieces, lease: GpuLease, offset: number, length: number): Promise<Uint8Array> {
  const piece = await pieces.take();
  const beyond = piece.bytes.subarray(length, length + 64);
  piece.bytes.fill(0xee, 0, length + 64);
  await lease.read(offset, piece, length);
  const bytes = Uint8Array.from(piece.bytes.subarray(0, length));
  const touched = beyond.some((byte) => byte !== 0xee);
  assert.ok(!touched, 'a read wrote beyond its length');
  piece.release();
  return bytes;
}

async function writeFrom(pieces: Pieces, lease: GpuLease, offset: number, bytes: Uint8Array): Promise<void> {
  const piece = await pieces.take();
  piece.bytes.fill(0xdd, bytes.length, bytes.length + 64);
  piece.bytes.set(bytes);
  await lease.write(offset, piece, bytes.length);
  piece.release();
}

/** A lease of so many bytes whose pages do not follow each other. */
function scatteredLease(pool: TestPool['pool'], bytes: number): GpuLease {
  const pages = Array.from({ length: 2 * Math.ceil(bytes / PAGE_BYTES) }, () => {
    const lease = pool.lease();
    assert.ok(lease.grow(PAGE_BYTES));
    return lease;
  });
  const lease = pool.lease();
  for (const [i, page] of pages.entries()) if (i % 2 === 0) page.release();
  assert.ok(lease.grow(bytes));
  for (const [i, page] of pages.entries()) if (i % 2 === 1) page.release();
  return lease;
}

const stop = (pid: number) => process.kill(pid, 'SIGSTOP');
const kill = (pid: number) => process.kill(pid, 'SIGKILL');
const lostCode = { code: 'adapter_lost' };

for (const transport of ['ring', 'socket'] as const)
  describe(transport, () => {
    test('read() gives what write() was given, at odd sizes, on contiguous and scattered pages', async (t) => {
      const random = seeded();
      t.diagnostic(`SEED=${random.seed}`);
      const { pool, pieces } = await startPool(t, { transport });
      for (const size of ODD_SIZES) {
        const contiguous = pool.lease();
        assert.ok(contiguous.grow(size));
        for (const lease of [contiguous, scatteredLease(pool, size)]) {
          const bytes = random.bytes(size);
          await writeFrom(pieces, lease, 0, bytes);
          assertSameBytes(await readBack(pieces, lease, 0, size), bytes, `${size} bytes`);
          assert.equal(lease.bytes, size);
          lease.release();
        }
      }
      assert.equal(pool.report()[0]?.memory.used, 0);
      assert.equal(pieces.free, pieces.count);
    });

    test('write() touches no page but its own, and read() begins at any page', async (t) => {
      const random = seeded();
      const { pool, pieces } = await startPool(t, { transport });
      const leases = Array.from({ length: 6 }, () => scatteredLease(pool, 3 * PAGE_BYTES));
      const contents = leases.map(() => random.bytes(3 * PAGE_BYTES));
      for (const [i, lease] of leases.entries()) await writeFrom(pieces, lease, 0, contents[i] ?? new Uint8Array(0));
      const odd = random.bytes(PAGE_BYTES + 3);
      contents[2]?.set(odd, PAGE_BYTES);
      // A GPU copies words: the last byte of the last word is not the caller's, and may change.
      await writeFrom(pieces, leases[2] ?? pool.lease(), PAGE_BYTES, odd);
      for (const [i, lease] of leases.entries()) {
        const wanted = contents[i] ?? new Uint8Array(0);
        const whole = await readBack(pieces, lease, 0, i === 2 ? 2 * PAGE_BYTES + 3 : 3 * PAGE_BYTES);
        assertSameBytes(whole, wanted.subarray(0, whole.length), `lease ${i}`);
        const tail = await readBack(pieces, lease, PAGE_BYTES, PAGE_BYTES + 1);
        assertSameBytes(tail, wanted.subarray(PAGE_BYTES, 2 * PAGE_BYTES + 1), `end of lease ${i}`);
      }
    });

    test('private pieces travel like shared ones', async (t) => {
      const random = seeded();
      const { pool } = await startPool(t, { transport });
      for (const size of [1, 2, 3, 5, 10, 65_535, 65_536]) {
        const lease = pool.lease();
        lease.grow(size);
        const bytes = random.bytes(size);
        await lease.write(0, privatePiece(Uint8Array.from(bytes)), size);
        const back = privatePiece(new Uint8Array(size));
        await lease.read(0, back, size);
        assertSameBytes(back.bytes, bytes, `${size} bytes`);
        lease.release();
      }
    });

    test('many requests at once are answered each with its own bytes', async (t) => {
      const random = seeded();
      const { pool, pieces } = await startPool(t, { transport });
      const work = Array.from({ length: 80 }, async (_, i) => {
        const bytes = random.bytes(1 + random.below(200_000));
        const lease = pool.lease();
        assert.ok(lease.grow(bytes.length));
        await writeFrom(pieces, lease, 0, bytes);
        for (let again = 0; again < 2; again++)
          assertSameBytes(await readBack(pieces, lease, 0, bytes.length), bytes, `request ${i}`);
        lease.release();
      });
      await Promise.all(work);
      assert.equal(pieces.free, pieces.count);
      assert.equal(pool.report()[0]?.queue, 0);
    });

    test('SIGKILL fails what waits with adapter_lost, and another process serves after a pause', async (t) => {
      const { pool, pieces, pid, lost, lines } = await startPool(t, { transport });
      const lease = pool.lease();
      lease.grow(8 * MiB);
      await writeFrom(pieces, lease, 0, new Uint8Array(100).fill(7));
      const first = pid();
      stop(first); // so that the requests do wait
      const piece = await pieces.take();
      const other = await pieces.take();
      const waiting = [
        lease.write(0, piece, PIECE_BYTES),
        lease.read(PIECE_BYTES, other, PIECE_BYTES),
        lease.read(0, privatePiece(new Uint8Array(3)), 3),
      ].map((request) => assert.rejects(request, lostCode));
      assert.equal(pool.report()[0]?.queue, 3);
      kill(first);
      await Promise.all(waiting);
      assert.equal(lease.lost, true);
      await assert.rejects(lease.read(0, piece, 100), lostCode);
      piece.release();
      other.release();
      await until(() => lost.length > 0, 'the loss was told');
      assert.deepEqual(lost, ['adapter-0']);
      assert.equal(pool.ready, false);
      assert.equal(pool.capacityBytes, 0);
      assert.throws(() => pool.lease(), { code: 'adapter_unavailable' });
      lease.release(); // and holds nothing
      await until(() => pool.ready, 'another process serves');
      assert.notEqual(pid(), first);
      assert.equal(pool.report()[0]?.restarts, 1);
      assert.match(lines.join('\n'), /was lost \(SIGKILL\); next start in 100 ms/);
      const fresh = pool.lease();
      assert.ok(fresh.grow(128 * MiB), 'the fresh process has all its pages');
      assert.equal(fresh.lost, false);
      await writeFrom(pieces, fresh, 0, new Uint8Array(100).fill(9));
      assert.ok((await readBack(pieces, fresh, 0, 100)).every((byte) => byte === 9));
      assert.equal(pieces.free, pieces.count);
    });

    test('a process that hangs past the deadline is killed, and another serves', async (t) => {
      const { pool, pieces, pid, lines } = await startPool(t, { transport, deadlineMs: 300 });
      const lease = pool.lease();
      lease.grow(100);
      const first = pid();
      stop(first);
      await assert.rejects(lease.read(0, privatePiece(new Uint8Array(100)), 100), lostCode);
      assert.equal(isAlive(first), false);
      assert.match(lines.join('\n'), /has not answered in 300 ms; it is killed/);
      await until(() => pool.ready, 'another process serves');
      const fresh = pool.lease();
      fresh.grow(100);
      await writeFrom(pieces, fresh, 0, new Uint8Array(100));
      assert.equal(lease.lost, true);
    });

    test('memory stays bounded while 2 GiB pass through a lease of 128 MiB', procOnly, async (t) => {
      const { pool, pieces, pid } = await startPool(t, { transport });
      const lease = pool.lease();
      lease.grow(128 * MiB);
      const random = seeded();
      const written = new Map<number, number>();
      const writeAt = async (at: number): Promise<void> => {
        const piece = await pieces.take();
        const mark = random.below(256);
        piece.bytes[PIECE_BYTES - 1] = mark;
        written.set(at, mark);
        await lease.write(at, piece, PIECE_BYTES);
        piece.release();
      };
      const own = process.memoryUsage().rss / MiB;
      for (let sent = 0; sent < 2048 * MiB; sent += 128 * MiB)
        await Promise.all(Array.from({ length: 32 }, (_, i) => writeAt(i * PIECE_BYTES)));
      const grown = process.memoryUsage().rss / MiB - own;
      assert.ok(grown < 200, `this process grew by ${grown} MiB`);
      // 128 MiB of arena, 64 of shared pieces, what node and the driver need, and what is under way.
      const peak = statusMiB(pid(), 'VmHWM');
      assert.ok(peak < 640, `the adapter's process had ${peak} MiB`);
      for (const [at, mark] of written) {
        const piece = await pieces.take();
        await lease.read(at, piece, PIECE_BYTES);
        assert.equal(piece.bytes[PIECE_BYTES - 1], mark);
        piece.release();
      }
    });

    test('close() ends the process, also one that is stopped, and fails what waits', async (t) => {
      const { pool, pid } = await startPool(t, { transport });
      const lease = pool.lease();
      lease.grow(4);
      const first = pid();
      stop(first);
      const waiting = assert.rejects(lease.read(0, privatePiece(new Uint8Array(4)), 4), lostCode);
      await pool.close();
      await waiting;
      assert.equal(isAlive(first), false);
      assert.equal(pool.ready, false);
      assert.throws(() => pool.lease(), { code: 'adapter_unavailable' });
    });
  });

test('report() tells what an adapter is, and what of it is used', async (t) => {
  const { pool, lines, pid } = await startPool(t, { adapters: 'auto', memoryBytes: 300 * MiB });
  const [report] = pool.report();
  assert.ok(report);
  assert.equal(report.state, 'ready');
  assert.equal(report.id, 'adapter-0');
  assert.ok(report.source === 'system' || report.source === 'swiftshader');
  const { slabs, freeSlabs, ...memory } = report.memory;
  assert.deepEqual(memory, { used: 0, capacity: 256 * MiB, asked: 0, idle: 0, classes: [] });
  assert.deepEqual([slabs, freeSlabs], [64, 64]);
  assert.ok(report.name.length > 0 && (report.backend?.length ?? 0) > 0);
  assert.ok((report.limits?.maxBufferSize ?? 0) >= 128 * MiB);
  assert.equal(report.pid, pid());
  assert.equal(report.queue, 0);
  assert.ok(report.utilization >= 0 && report.utilization <= 1);
  assert.equal(pool.capacityBytes, 256 * MiB);
  assert.ok(pool.summary.startsWith(report.name));
  assert.match(lines.join('\n'), /, 256 MiB, process \d+/);
  const lease = pool.lease();
  lease.grow(PAGE_BYTES + 1);
  assert.deepEqual(pool.report()[0]?.memory, {
    used: 2 * PAGE_BYTES,
    capacity: 256 * MiB,
    asked: PAGE_BYTES + 1,
    idle: 62 * PAGE_BYTES,
    slabs: 64,
    freeSlabs: 63,
    classes: [{ pageBytes: PAGE_BYTES, slabs: 1, pages: 64, freePages: 62 }],
  });
  assert.deepEqual(pool.faults(), []);
});

test('pages written right after the start keep their bytes, wherever they lie', async (t) => {
  const { pool, pieces } = await startPool(t, { memoryBytes: 512 * MiB });
  const leases = Array.from({ length: 4 }, () => {
    const lease = pool.lease();
    assert.ok(lease.grow(128 * MiB));
    return lease;
  });
  const marks = leases.map((_, i) => new Uint8Array(PAGE_BYTES).fill(i + 1));
  await Promise.all(leases.map((lease, i) => writeFrom(pieces, lease, 0, marks[i] ?? new Uint8Array(0))).reverse());
  await sleep(500); // as long as the process might still be clearing its memory
  for (const [i, lease] of leases.entries())
    assertSameBytes(await readBack(pieces, lease, 0, PAGE_BYTES), marks[i] ?? new Uint8Array(0), `binding ${i}`);
});

test('drain() keeps new leases away, also over a restart; resume() lets them in; an unknown adapter is told', async (t) => {
  const { pool, pieces, pid } = await startPool(t, { adapters: [SOURCE, SOURCE] });
  const held = pool.lease({ adapter: 'adapter-0' });
  held.grow(100);
  await writeFrom(pieces, held, 0, new Uint8Array(100).fill(5));
  assert.equal(pool.drain('adapter-0').state, 'draining');
  assert.deepEqual([pool.places(), pool.isDraining('adapter-0')], [['adapter-1'], true]);
  assert.equal(pool.lease().adapter, 'adapter-1');
  assert.throws(() => pool.lease({ adapter: 'adapter-0' }), { code: 'adapter_unavailable', message: /is draining/ });
  assert.ok(
    (await readBack(pieces, held, 0, 100)).every((byte) => byte === 5),
    'what is there is served',
  );
  held.release();
  assert.equal(pool.reportOf('adapter-0').state, 'drained');
  pool.drain('adapter-1');
  assert.equal(pool.ready, false);
  assert.throws(() => pool.lease(), { code: 'adapter_unavailable', message: /adapter-0 is drained/ });
  pool.resume('adapter-1');

  const before = pid(0);
  const report = await pool.restart('adapter-0');
  assert.notEqual(pid(0), before);
  assert.deepEqual([report.state, report.restarts], ['drained', 1]);
  assert.equal(pool.lease().adapter, 'adapter-1');
  assert.equal(pool.resume('adapter-0').state, 'ready');
  assert.equal(pool.lease({ adapter: 'adapter-0' }).adapter, 'adapter-0');
  for (const ask of [
    pool.drain,
    pool.resume,
    pool.isDraining,
    pool.reportOf,
    (adapter: string) => pool.lease({ adapter }),
  ])
    assert.throws(() => ask('adapter-7'), {
      code: 'adapter_unknown',
      message: /adapter-7; there are adapter-0, adapter-1/,
    });
  await assert.rejects(pool.restart('adapter-7'), { code: 'adapter_unknown' });
});

test('restart() ends a process that hangs, and fails what waits there', async (t) => {
  const { pool, pid, lost } = await startPool(t);
  const lease = pool.lease();
  lease.grow(4);
  stop(pid());
  const waiting = assert.rejects(lease.read(0, privatePiece(new Uint8Array(4)), 4), lostCode);
  const controller = new AbortController();
  controller.abort();
  await pool.restart('adapter-0', controller.signal); // who left waits for nothing, and it comes back all the same
  await waiting;
  assert.deepEqual(lost, ['adapter-0']);
  await until(() => pool.ready, 'another process serves');
  assert.equal(pool.report()[0]?.memory.used, 0);
});

test('utilization is that of the last seconds, and queue that of now', async (t) => {
  const { pool, pid } = await startPool(t);
  const lease = pool.lease();
  lease.grow(4);
  const first = pid();
  stop(first);
  const waiting = lease.read(0, privatePiece(new Uint8Array(4)), 4);
  await until(() => (pool.report()[0]?.utilization ?? 0) > 0.1, 'a pending request counts while it is pending');
  assert.equal(pool.report()[0]?.queue, 1);
  process.kill(first, 'SIGCONT');
  await waiting;
  assert.deepEqual([pool.report()[0]?.queue, pool.report()[0]?.bytesInFlight], [0, 0]);
});

test('lease() places on the adapter with the most free pages', async (t) => {
  const { pool, pieces, pid, lost } = await startPool(t, { adapters: [SOURCE, SOURCE] });
  assert.notEqual(pid(0), pid(1));
  assert.equal(pool.capacityBytes, 256 * MiB);
  const first = pool.lease();
  first.grow(2 * PAGE_BYTES);
  const second = pool.lease();
  second.grow(PAGE_BYTES);
  const third = pool.lease();
  third.grow(1);
  assert.deepEqual(
    [first, second, third].map((lease) => lease.adapter),
    ['adapter-0', 'adapter-1', 'adapter-1'],
  );
  await writeFrom(pieces, second, 0, new Uint8Array(9).fill(3));

  kill(pid(0));
  await until(() => lost.length > 0, 'the first adapter is lost');
  assert.equal(pool.ready, true, 'one adapter is enough');
  assert.deepEqual([first.lost, second.lost], [true, false]);
  assert.equal(pool.lease().adapter, 'adapter-1');
  assert.ok((await readBack(pieces, second, 0, 9)).every((byte) => byte === 3));
  await until(() => pool.report()[0]?.state === 'ready', 'the first adapter is back');
  assert.equal(pool.lease().adapter, 'adapter-0');
});

test('pauses between starts grow', async (t) => {
  const { pool, pid, lines } = await startPool(t);
  for (let round = 0; round < 3; round++) {
    kill(pid());
    await until(() => !pool.ready, 'the loss was seen');
    await until(() => pool.ready, 'another process serves');
  }
  const pauses = lines.flatMap((line) => line.match(/next start in (\d+) ms/)?.[1] ?? []);
  assert.deepEqual(pauses, ['100', '200', '400']);
  assert.equal(pool.report()[0]?.restarts, 3);
});

test('a driver that offers no adapter is tried again until it does', driverOnly, async (t) => {
  const manifest = join(folder(t), 'driver.json');
  const { loader, environment } = candidate('swiftshader', driverFolder);
  assert.ok(loader && environment.VK_DRIVER_FILES);
  const driver = JSON.parse(readFileSync(environment.VK_DRIVER_FILES, 'utf8')) as { ICD: { library_path: string } };
  const { pool, lines } = await startPool(t, {
    adapters: [manifest],
    environment: { ...process.env, LD_LIBRARY_PATH: dirname(loader) },
  });
  assert.equal(pool.ready, false);
  assert.throws(() => pool.lease(), { code: 'adapter_unavailable', message: /driver\.json offers no adapter/ });
  const [report] = pool.report();
  assert.equal(report?.state, 'restarting');
  assert.match(report?.reason ?? '', /offers no adapter/);
  assert.match(pool.summary, /offers no adapter/);
  assert.equal(report?.restarts, 0, 'nothing was lost');
  assert.deepEqual(lines, [], 'a search without success is no event');

  driver.ICD.library_path = join(dirname(environment.VK_DRIVER_FILES), driver.ICD.library_path);
  writeFileSync(manifest, JSON.stringify(driver));
  await until(() => pool.ready, 'the adapter that came later serves');
  assert.equal(pool.report()[0]?.reason, undefined);
});

test('close() ends everything while an adapter is searched in vain', driverOnly, async (t) => {
  const { pool } = await startPool(t, { adapters: ['/nonexistent/driver.json', 'no such source'] });
  assert.equal(pool.ready, false);
  await pool.close();
  await sleep(300); // the next try would be due
  assert.deepEqual(adapterProcesses(), []);
});

test('close() ends a process that is just starting', procOnly, async (t) => {
  const { pool, pid } = await startPool(t);
  const first = pid();
  kill(first);
  await until(() => adapterProcesses().some((other) => other !== first), 'the next process has begun');
  await pool.close();
  assert.deepEqual(adapterProcesses(), []);
  assert.equal(pool.ready, false);
});

test('a process that crashes at its start says why, and is tried again', async (t) => {
  const crash = join(folder(t), 'crash.cjs');
  writeFileSync(crash, "throw new TypeError('no luck today');");
  const { pool } = await startPool(t, { environment: { ...process.env, NODE_OPTIONS: `--require ${crash}` } });
  assert.match(pool.report()[0]?.reason ?? '', /ended before it was ready \(exit 1: TypeError: no luck today\)/);
});

test('a malformed frame costs the adapter its process, and this one nothing', async (t) => {
  const noise = join(folder(t), 'noise.cjs');
  writeFileSync(noise, "require('node:fs').writeSync(3, 'x'.repeat(100));");
  const { pool, lines } = await startPool(t, { environment: { ...process.env, NODE_OPTIONS: `--require ${noise}` } });
  assert.equal(pool.ready, false);
  assert.match(lines.join('\n'), /is killed: Error: a frame does not begin with its magic number/);
});

test('no file left to open is a failed start, and not the end of this process', async () => {
  const script = `
    import { openSync } from 'node:fs';
    import { openPool } from ${JSON.stringify(new URL('../../../core/gpu/pool.ts', import.meta.url).href)};
    import { openPieces } from ${JSON.stringify(new URL('../../../core/gpu/pieces.ts', import.meta.url).href)};
    const pieces = await openPieces({ count: 8, shared: false });
    try { for (;;) openSync('/dev/null', 'r'); } catch {}
    const pool = await openPool({ adapters: ['system'], dataDir: '/nonexistent', memoryBytes: 0, deadlineMs: 1000,
      pieces, environment: process.env, log() {}, onLost() {} });
    console.log(pool.report()[0].reason);
    await pool.close();`;
  const { stdout } = await promisify(execFile)('sh', [
    '-c',
    'ulimit -n 64; exec "$0" --input-type=module -e "$1"',
    process.execPath,
    script,
  ]);
  assert.match(stdout, /no process could be started for adapter system: spawn .* EMFILE/);
});

test('an idle adapter uses no processor time', procOnly, async (t) => {
  const { pool, pieces, pid } = await startPool(t);
  const lease = pool.lease();
  lease.grow(PIECE_BYTES);
  await writeFrom(pieces, lease, 0, new Uint8Array(PIECE_BYTES));
  await readBack(pieces, lease, 0, PIECE_BYTES);
  await sleep(300); // its start is over
  const before = cpuSeconds(pid());
  await sleep(1000);
  const used = cpuSeconds(pid()) - before;
  assert.ok(used < 0.2, `${used} s of 1 s`);
});

for (const transport of ['ring', 'socket'] as const)
  describe(`startDevice() over ${transport}`, () => {
    async function start(): Promise<{ link: DeviceLink; pieces: Pieces }> {
      const pieces = await piecesFor(transport);
      const link = await startDevice({
        candidate: candidate(SOURCE, driverFolder),
        pieces,
        bindings: 1,
        deadlineMs: 5000,
        environment: process.env,
        log: () => {},
        signal: new AbortController().signal,
      });
      return { link, pieces };
    }
    const nowhere = [{ binding: 9, byteOffset: 0, byteLength: 3 }];
    const refused = { code: 'adapter_failed', message: /there is no binding 9/ };
    const small = (): Piece => privatePiece(Uint8Array.of(1, 2, 3));

    test('work that the adapter refuses fails alone, and leaves its piece as it was', async (t) => {
      const { link, pieces } = await start();
      t.after(() => link.close());
      const piece = await pieces.take();
      piece.bytes.fill(0x55);
      for (const one of [piece, small()]) {
        const before = Uint8Array.from(one.bytes);
        await assert.rejects(link.write(one, 3, nowhere), refused);
        await assert.rejects(link.read(one, 3, nowhere), refused);
        assertSameBytes(one.bytes, before, 'the piece');
      }
      piece.release();
      assert.equal(link.queue, 0);
    });

    test('any number of refused reads leaves room for others', async (t) => {
      const { link } = await start();
      t.after(() => link.close());
      for (let i = 0; i < 8; i++) await assert.rejects(link.read(small(), 3, nowhere), refused);
      const runs = [{ binding: 0, byteOffset: 0, byteLength: 3 }];
      await link.write(small(), 3, runs);
      const back = privatePiece(new Uint8Array(3));
      await link.read(back, 3, runs);
      assert.deepEqual(back.bytes, Uint8Array.of(1, 2, 3));
      assert.ok(link.busyMs > 0);
    });

    test('a signal that aborts gives the start up', async () => {
      const pieces = await piecesFor(transport);
      const starting = startDevice({
        candidate: candidate(SOURCE, driverFolder),
        pieces,
        bindings: 1,
        deadlineMs: 5000,
        environment: process.env,
        log: () => {},
        signal: AbortSignal.timeout(20),
      });
      await assert.rejects(starting, /ended before it was ready \(SIGKILL\)/);
    });
  });

test('no process of an adapter is left behind', async () => {
  await until(() => adapterProcesses().length === 0, 'all processes have ended', 5000);
});
