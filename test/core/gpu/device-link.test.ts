// One adapter process on the software adapter, asked directly: runs, what is called off, what is in flight, a GPU that hangs,
// and how often bytes cross the socket; over both transports.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { candidate } from '../../../core/gpu/adapters.ts';
import type { DeviceLink } from '../../../core/gpu/device-link.ts';
import { PIECE_BYTES, type Piece, type Pieces, privatePiece } from '../../../core/gpu/pieces.ts';
import { padded, scratch, type WorkDispatch, type WorkRange } from '../../../core/gpu/work.ts';
import { checksum } from '../../../shaders/references.ts';
import { checksumSteps } from '../../../shaders/steps.ts';
import { driverFolder, hasProc, hasSwiftshader, SOURCE, statusMiB } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { startLink } from '../../support/links.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const procOnly = { skip: !hasProc && 'there is no /proc here' };
/** Where hundreds of large products are seconds of work for sure, and /proc tells of threads. */
const slowOnly = { skip: !hasSwiftshader && 'npm has no software adapter for this platform' };
const whole = (bytes: number): number => Math.ceil(bytes / 16) * 16;
const at = (place: number, size: number, offset = 0): WorkRange => ({ at: place, offset, size });
const copy = (source: WorkRange, target: WorkRange, words: number, more = {}): WorkDispatch => ({
  ...{ kernel: 'copy', bindings: { source, target }, parameters: { words } },
  ...more,
});
/** Whatever the machine, this is long: each product takes a software adapter a tenth of a second or more. */
const product: WorkDispatch = {
  kernel: 'matmul',
  bindings: { left: at(scratch(0), 4 * MiB), right: at(scratch(1), 4 * MiB), target: at(scratch(2), 4 * MiB) },
  parameters: { rows: 1024, inner: 1024, columns: 1024 },
};
const signalTo = (link: DeviceLink, name: 'SIGSTOP' | 'SIGCONT') => process.kill(link.pid, name);
const soon = () => new Promise((resolve) => setTimeout(resolve, 20));

async function taken(pieces: Pieces, bytes?: Uint8Array): Promise<Piece> {
  const piece = await pieces.take();
  piece.bytes.fill(0xee);
  if (bytes) piece.bytes.set(bytes);
  return piece;
}

/** Bytes up, copied from scratch to scratch, and down again. */
async function roundTrip(link: DeviceLink, bytes: Uint8Array): Promise<Uint8Array> {
  const size = whole(bytes.length);
  const back = privatePiece(new Uint8Array(bytes.length));
  await link.run({
    uploads: [{ piece: privatePiece(bytes), from: 0, range: at(scratch(0), bytes.length) }],
    dispatches: [copy(at(scratch(0), size), at(scratch(1), size), Math.ceil(bytes.length / 4))],
    downloads: [{ piece: back, from: 0, range: at(scratch(1), bytes.length) }],
  });
  return back.bytes;
}

for (const transport of ['ring', 'socket'] as const)
  describe(transport, () => {
    test('run() brings bytes up, works in order, and brings bytes down, from and to any piece', async (t) => {
      const random = seeded();
      t.diagnostic(`SEED=${random.seed}`);
      const { link, pieces } = await startLink(t, transport);
      for (const size of [1, 16, 1001, 65_536, 1_000_003]) {
        const bytes = random.bytes(size);
        const steps = checksumSteps(size);
        const from = await taken(pieces);
        from.bytes.set(bytes, 128);
        const into = await taken(pieces);
        const hash = privatePiece(new Uint8Array(16));
        // Up into the arena, from there into scratch, level by level between two scratches, the last one down.
        const sources = [at(0, whole(size), 4096), ...steps.map((_, i) => at(scratch(i % 2), 8 * MiB))];
        const dispatches = steps.map(
          (parameters, i): WorkDispatch => ({
            kernel: 'checksum',
            bindings: { source: sources[i] ?? at(0, 0), target: sources[i + 1] ?? at(0, 0) },
            parameters: { ...parameters },
          }),
        );
        const { gpuMs } = await link.run(
          {
            uploads: [{ piece: from, from: 128, range: at(0, size, 4096) }],
            dispatches: [
              ...dispatches,
              copy(at(0, whole(size), 4096), at(scratch(3), whole(size)), Math.ceil(size / 4)),
            ],
            downloads: [
              { piece: hash, from: 0, range: at(scratch((steps.length - 1) % 2), 16) },
              { piece: into, from: 64, range: at(scratch(3), size) },
            ],
          },
          { timed: true },
        );
        assertSameBytes(hash.bytes, new Uint8Array(checksum(bytes).buffer, 0, 16), `checksum of ${size} bytes`);
        assertSameBytes(into.bytes.subarray(64, 64 + size), bytes, `${size} bytes`);
        assert.ok(into.bytes.subarray(64 + size).every((byte) => byte === 0xee) && into.bytes[63] === 0xee);
        assert.equal(gpuMs !== undefined, link.hello.capabilities.timestamps);
        if (gpuMs !== undefined) assert.ok(gpuMs >= 0 && gpuMs < 60_000, String(gpuMs));
        from.release();
        into.release();
      }
      assert.deepEqual(await link.run({}), { gpuMs: undefined }, 'nothing to do is done');
      assert.equal(link.queue, 0);
      assert.equal(link.flight.bytes, 0);
    });

    test('run() and write() share the arena, in the order in which they were asked', async (t) => {
      const random = seeded();
      const { link } = await startLink(t, transport);
      await roundTrip(link, random.bytes(16)); // compiled
      const [first, second] = [random.bytes(4096), random.bytes(4096)];
      const runs = [{ binding: 0, byteOffset: 0, byteLength: 4096 }];
      const [a, b] = [privatePiece(new Uint8Array(4096)), privatePiece(new Uint8Array(4096))];
      const look = (into: Piece) =>
        link.run({
          dispatches: [copy(at(0, 4096), at(scratch(1), 4096), 1024)],
          downloads: [{ piece: into, from: 0, range: at(scratch(1), 4096) }],
        });
      await Promise.all([
        link.write(privatePiece(first), 4096, runs),
        look(a),
        link.write(privatePiece(second), 4096, runs),
        look(b),
      ]);
      assertSameBytes(a.bytes, first, 'before the second write');
      assertSameBytes(b.bytes, second, 'after it');
    });

    test('more large writes at once than there is staging for all arrive, wherever their pages lie', async (t) => {
      const random = seeded();
      t.diagnostic(`SEED=${random.seed}`);
      const { link, pieces } = await startLink(t, transport);
      const half = PIECE_BYTES / 2;
      const odd = half - 5; // the last run may end within a word
      const runsOf = (i: number) => [
        { binding: 0, byteOffset: (2 * i + 1) * half, byteLength: half },
        { binding: 0, byteOffset: 2 * i * half, byteLength: odd },
      ];
      const sent = Array.from({ length: 12 }, () => random.bytes(half + odd));
      await Promise.all(
        sent.map(async (bytes, i) => {
          const piece = await taken(pieces, bytes);
          await link.write(piece, bytes.length, runsOf(i));
          piece.bytes.fill(0); // answered: the piece is free
          piece.release();
        }),
      );
      for (const [i, bytes] of sent.entries()) {
        const piece = await taken(pieces);
        await link.read(piece, bytes.length, runsOf(i));
        assertSameBytes(piece.bytes.subarray(0, bytes.length), bytes, `write ${i}`);
        piece.release();
      }
    });

    test('work that is wrong fails alone with kernel_refused, whatever is wrong with it', async (t) => {
      const random = seeded();
      const { link, pieces } = await startLink(t, transport);
      const { pid } = link;
      const good = copy(at(scratch(0), 64), at(scratch(1), 64), 16);
      const bad: readonly (readonly [WorkDispatch, RegExp])[] = [
        [{ ...good, kernel: 'toString' } as unknown as WorkDispatch, /there is no kernel toString; there is fill/],
        [copy(at(scratch(0), 64), at(scratch(0), 64, 256), 16), /is read in the buffer that target is written in/],
        [copy(at(0, 64), at(1, 64), 16), /there is no binding 1/],
        [copy(at(scratch(4), 64), at(0, 64), 16), /there is no scratch 4/],
        [copy(at(0, 64, 128 * MiB), at(scratch(0), 64), 16), /a buffer that has 134217728/],
        [copy(at(0, 64), at(scratch(0), 64), 17), /holds 64 bytes, and 80 will be touched/],
        [copy(at(0, 64, 4), at(scratch(0), 64), 16), /multiple of 256/],
        [{ ...good, variant: 'none' }, /no variant none/],
        [{ ...good, constants: { NOTHING: 1 } } as unknown as WorkDispatch, /cannot be made here/],
        [{ ...good, bindings: { source: at(0, 64) } } as unknown as WorkDispatch, /binding target is missing/],
        [
          { ...product, parameters: { rows: 1, inner: 0, columns: 1 << 23 }, variant: 'tiled' } as WorkDispatch,
          /dispatch it in parts|holds 4194304 bytes/,
        ],
      ];
      const piece = await taken(pieces);
      const requests = bad.flatMap(([dispatch, message]) => [
        assert.rejects(
          link.run({
            uploads: [{ piece: privatePiece(new Uint8Array(64).fill(1)), from: 0, range: at(0, 64, 1024) }],
            dispatches: [good, dispatch],
            downloads: [{ piece, from: 0, range: at(scratch(1), 64) }],
          }),
          { code: 'kernel_refused', message },
        ),
        roundTrip(link, random.bytes(4096)),
      ]);
      await Promise.all(requests);
      const uploads = [{ piece: privatePiece(new Uint8Array(64)), from: 0, range: at(0, 64, 128 * MiB - 32) }];
      await assert.rejects(link.run({ uploads }), { code: 'kernel_refused', message: /of a buffer that has/ });
      await assert.rejects(link.run({ dispatches: Array(1025).fill(good) }), { code: 'kernel_refused' });
      assert.ok(
        piece.bytes.every((byte) => byte === 0xee),
        'nothing came down',
      );
      const back = privatePiece(new Uint8Array(64));
      await link.read(back, 64, [{ binding: 0, byteOffset: 1024, byteLength: 64 }]);
      assert.deepEqual(back.bytes, new Uint8Array(64), 'and nothing went up');
      assert.equal(link.pid, pid);
      assert.equal(link.queue, 0);
      piece.release();
    });

    test('what is aborted in line leaves it at once; what was sent rejects when the process has answered', async (t) => {
      const { link, pieces } = await startLink(t, transport, { flight: { framesMax: 2, bytesMax: MiB, lineMax: 2 } });
      const runs = [{ binding: 0, byteOffset: 0, byteLength: 100 }];
      await link.write(privatePiece(new Uint8Array(100).fill(5)), 100, runs);
      const piece = await taken(pieces);
      signalTo(link, 'SIGSTOP');
      const [sent, inLine] = [new AbortController(), new AbortController()];
      const reasons = [new Error('sent'), new Error('in line')];
      const first = link.read(piece, 100, runs, { signal: sent.signal });
      const second = roundTrip(link, new Uint8Array(16));
      const third = link.read(privatePiece(new Uint8Array(100)), 100, runs, { signal: inLine.signal });
      const fourth = link.read(privatePiece(new Uint8Array(100)), 100, runs);
      assert.deepEqual([link.flight.frames, link.flight.waiting, link.queue], [2, 2, 4]);
      await assert.rejects(roundTrip(link, new Uint8Array(16)), { code: 'adapter_busy' });
      inLine.abort(reasons[1]);
      await assert.rejects(third, reasons[1]);
      assert.equal(link.flight.waiting, 1);
      let rejected = false;
      const checked = assert.rejects(first, reasons[0]).then(() => {
        rejected = true;
      });
      sent.abort(reasons[0]);
      await soon();
      assert.equal(rejected, false, 'the process may still write into the piece');
      signalTo(link, 'SIGCONT');
      await checked;
      piece.bytes.fill(0x77); // somebody else's now
      await Promise.all([second, fourth]);
      await roundTrip(link, new Uint8Array(4096));
      assert.ok(piece.bytes.every((byte) => byte === 0x77));
      await assert.rejects(link.run({}, { signal: AbortSignal.abort(reasons[0]) }), reasons[0]);
      assert.deepEqual([link.flight.frames, link.flight.bytes, link.queue], [0, 0, 0]);
      piece.release();
    });

    test('a request that has not begun in the process is dropped', async (t) => {
      const { link, pieces } = await startLink(t, transport);
      const runs = [{ binding: 0, byteOffset: 0, byteLength: 64 }];
      await link.write(privatePiece(new Uint8Array(64).fill(5)), 64, runs);
      const reason = new Error('no more');
      const controller = new AbortController();
      const options = { signal: controller.signal };
      const piece = await taken(pieces);
      signalTo(link, 'SIGSTOP'); // so that the order to drop comes along with what it drops
      const kept = Array.from({ length: 4 }, () => link.read(privatePiece(new Uint8Array(64)), 64, runs));
      const rare = { variant: 'beside', tuning: { WORKGROUP: 16, PER: 3 } };
      const dropped = [
        // waits for its pipeline
        link.run({ dispatches: [copy(at(scratch(3), 64), at(0, 64), 16, rare)] }, options),
        // waits for staging, of which the others have all
        link.read(piece, 64, runs, options),
        link.run({ downloads: [{ piece, from: 0, range: at(0, 64) }] }, options),
      ].map((request) => assert.rejects(request, reason));
      controller.abort(reason);
      signalTo(link, 'SIGCONT');
      await Promise.all([...dropped, ...kept]);
      const back = privatePiece(new Uint8Array(64));
      await link.run({ downloads: [{ piece: back, from: 0, range: at(0, 64) }] });
      assert.ok(
        back.bytes.every((byte) => byte === 5),
        'the run that was dropped wrote nothing',
      );
      assert.ok(
        piece.bytes.every((byte) => byte === 0xee),
        'the reads that were dropped wrote nothing',
      );
      // And what waited behind them is served.
      await Promise.all(Array.from({ length: 12 }, () => roundTrip(link, new Uint8Array(64))));
      piece.release();
    });

    test('no more is in flight than may be, and the line is served in its order', async (t) => {
      const random = seeded();
      const bounds = { framesMax: 3, bytesMax: 200_000, lineMax: 1000 };
      const { link } = await startLink(t, transport, { flight: bounds });
      const done: number[] = [];
      let most = 0;
      const look = () => {
        most = Math.max(most, link.flight.frames);
        assert.ok(link.flight.frames <= bounds.framesMax && link.flight.bytes <= bounds.bytesMax);
      };
      const requests = Array.from({ length: 120 }, async (_, i) => {
        const bytes = random.bytes(1 + random.below(100_000));
        const runs = [{ binding: 0, byteOffset: i * MiB, byteLength: bytes.length }];
        const written = link.write(privatePiece(bytes), bytes.length, runs);
        look();
        await written;
        done.push(i);
        look();
        if (i % 3 === 0) assertSameBytes(await roundTrip(link, bytes), bytes, `request ${i}`);
        look();
      });
      assert.ok(link.flight.waiting > 100);
      await Promise.all(requests);
      assert.equal(most, bounds.framesMax);
      assert.deepEqual(
        done,
        [...done].sort((a, b) => a - b),
      );
      assert.deepEqual([link.flight.frames, link.flight.bytes, link.flight.waiting], [0, 0, 0]);
    });

    test(
      'payloads cross the socket once where pieces are not shared, and never where they are',
      procOnly,
      async (t) => {
        const { link, pieces } = await startLink(t, transport);
        const crossed = () => {
          const io = readFileSync(`/proc/${link.pid}/io`, 'utf8');
          const [up, down] = ['rchar', 'wchar'].map((name) => Number(new RegExp(`${name}: (\\d+)`).exec(io)?.[1]));
          return { up: up ?? Number.NaN, down: down ?? Number.NaN };
        };
        const runs = [{ binding: 0, byteOffset: 0, byteLength: PIECE_BYTES }];
        const piece = await taken(pieces);
        const move = { piece, from: 0, range: at(scratch(0), PIECE_BYTES) };
        await link.run({ uploads: [move], downloads: [move] });
        const before = crossed();
        const ROUNDS = 6;
        for (let i = 0; i < ROUNDS; i++) {
          await link.write(piece, PIECE_BYTES, runs);
          await link.read(piece, PIECE_BYTES, runs);
          await link.run({ uploads: [move], downloads: [move] });
        }
        const after = crossed();
        const payload = transport === 'ring' ? 0 : 2 * ROUNDS * PIECE_BYTES;
        for (const way of ['up', 'down'] as const) {
          const more = after[way] - before[way] - payload;
          assert.ok(more >= 0 && more < 64 << 10, `${way}: ${more} bytes beside ${payload}`);
        }
        piece.release();
      },
    );

    test('writes are answered while a GPU hangs, and the process is killed for it', slowOnly, async (t) => {
      const { link, lines } = await startLink(t, transport, { deadlineMs: 2000 });
      await link.run({ dispatches: [{ ...product, parameters: { rows: 4, inner: 4, columns: 4 } } as WorkDispatch] });
      const long = assert.rejects(link.run({ dispatches: Array(1024).fill(product) }), { code: 'adapter_lost' });
      const runs = [{ binding: 0, byteOffset: 0, byteLength: 64 }];
      let answered = 0;
      let over = false;
      void link.lost.then(() => {
        over = true;
      });
      for (; !over; await soon())
        try {
          await link.write(privatePiece(new Uint8Array(64)), 64, runs);
          answered++;
        } catch (error) {
          assert.equal((error as { code?: string }).code, 'adapter_lost');
        }
      await long;
      assert.ok(answered > 0, 'no write was answered');
      assert.match(lines.join('\n'), /has a GPU that finished nothing in 2000 ms; it is killed/);
      assert.equal(await link.lost, 'SIGKILL');
    });

    test('restart() ends the process as a lost device does, and fails what runs with adapter_lost', async (t) => {
      const { link } = await startLink(t, transport);
      const requests = [
        link.run({ dispatches: Array(4).fill(product) }),
        link.read(privatePiece(new Uint8Array(4)), 4, [{ binding: 0, byteOffset: 0, byteLength: 4 }]),
      ].map((request) => assert.rejects(request, { code: 'adapter_lost' }));
      await soon();
      await link.restart();
      await Promise.all(requests);
      assert.match(await link.lost, /exit 4: device lost: destroyed/);
      await assert.rejects(link.run({}), { code: 'adapter_lost' });
      await link.restart(); // there is nothing left to end
    });

    test('memory is flat over thousands of runs', procOnly, async (t) => {
      const random = seeded();
      const { link } = await startLink(t, transport);
      const bytes = random.bytes(100_000);
      const many = async (count: number) => {
        for (let i = 0; i < count; i += 20) await Promise.all(Array.from({ length: 20 }, () => roundTrip(link, bytes)));
      };
      await many(1000);
      const before = statusMiB(link.pid, 'RssAnon');
      await many(3000); // 600 MB have passed: a payload that is kept shows, what V8 and the driver set aside does not
      const grown = statusMiB(link.pid, 'RssAnon') - before;
      assert.ok(grown < 120, `it grew by ${grown} MiB`);
    });
  });

test('a process that waits for its GPU leaves the processor to others', slowOnly, async (t) => {
  const { link } = await startLink(t, 'ring', { deadlineMs: 2000 });
  // The driver computes in threads of its own; the one that waits is the first.
  const seconds = () => {
    const fields = readFileSync(`/proc/${link.pid}/task/${link.pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  };
  const long = assert.rejects(link.run({ dispatches: Array(1024).fill(product) }), { code: 'adapter_lost' });
  await new Promise((resolve) => setTimeout(resolve, 500));
  const before = seconds();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const used = seconds() - before;
  assert.ok(used < 0.1, `${used} s of 1 s`);
  await long;
});

test('robustness off gives the same results, and refuses the same', async (t) => {
  const random = seeded();
  const { link } = await startLink(t, 'ring', { robustness: false });
  const bytes = random.bytes(100_001);
  assertSameBytes(await roundTrip(link, bytes), bytes, 'a copy');
  const beyond = copy(at(scratch(0), 64), at(scratch(1), 64), 17);
  await assert.rejects(link.run({ dispatches: [beyond] }), { code: 'kernel_refused', message: /80 will be touched/ });
});

test('several processes share an adapter, each with its own memory', async (t) => {
  const random = seeded();
  const links = await Promise.all([0, 1, 2].map(() => startLink(t, 'ring')));
  assert.equal(new Set(links.map(({ link }) => link.pid)).size, 3);
  const contents = links.map(() => random.bytes(200_000));
  const into = at(0, 200_000);
  await Promise.all(
    links.map(({ link }, i) => {
      const piece = privatePiece(contents[i] ?? new Uint8Array(0));
      return link.run({ uploads: [{ piece, from: 0, range: into }] });
    }),
  );
  for (const [i, { link }] of links.entries()) {
    const piece = privatePiece(new Uint8Array(200_000));
    await link.run({ downloads: [{ piece, from: 0, range: into }] });
    assertSameBytes(piece.bytes, contents[i] ?? new Uint8Array(0), `process ${i}`);
  }
});

test('the greeting says what kernels can be chosen by', async (t) => {
  const { link } = await startLink(t, 'ring');
  const { capabilities, scratch: buffers, bindings, software, features } = link.hello;
  assert.deepEqual([buffers, bindings], [4, 1]);
  assert.equal(capabilities.has.includes('software'), software);
  assert.equal(capabilities.has.includes('subgroups'), features.includes('subgroups'));
  assert.equal(capabilities.timestamps, features.includes('timestamp-query'));
  assert.equal(capabilities.subgroupLanesMax > 0, capabilities.has.includes('subgroups'));
});

test('kernels are compiled ahead in the background; what cannot be is said, and costs nothing else', async (t) => {
  const { link, lines } = await startLink(t, 'ring', { warm: ['nope', 'pack:FORMAT=1', 'hadamard:BLOCK=7', 'fill'] });
  const bytes = seeded().bytes(1000);
  assertSameBytes(await roundTrip(link, bytes), bytes, 'a copy');
  await until(() => lines.some((line) => line.includes('not compiled ahead')), 'it was said');
  assert.match(lines.join('\n'), /not compiled ahead: Error: there is no kernel nope; there is fill/);
});

test('padded() copies nothing where the bytes go on, and at most once where they do not', () => {
  const bytes = Uint8Array.of(1, 2, 3, 4, 5, 6, 7);
  assert.equal(padded(bytes, 3).buffer, bytes.buffer);
  assert.deepEqual(padded(bytes, 3), Uint8Array.of(1, 2, 3, 4));
  assert.deepEqual(padded(bytes, 7), Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 0));
});

const LAVAPIPE = '/usr/share/vulkan/icd.d/lvp_icd.json';
const hasBoth = (() => {
  try {
    return hasSwiftshader && readFileSync(LAVAPIPE).length > 0;
  } catch {
    return false;
  }
})();
const bothOnly = { skip: !hasBoth && `there are no two drivers: SwiftShader from npm, and ${LAVAPIPE}` };

test('among several adapters a process takes the one of that name, as drivers or as we say it', bothOnly, async (t) => {
  const { loader, environment } = candidate(SOURCE, driverFolder);
  const drivers = `${LAVAPIPE}:${environment.VK_DRIVER_FILES}`;
  const start = (adapter: string) =>
    startLink(t, 'ring', {
      candidate: {
        ...{ name: 'both', adapter, environment: { VK_DRIVER_FILES: drivers, VK_ICD_FILENAMES: drivers } },
        ...(loader ? { loader } : {}),
      },
    });
  for (const wanted of ['llvmpipe', 'SwiftShader']) {
    const { link } = await start(wanted);
    assert.match(link.hello.name.toLowerCase(), new RegExp(wanted.toLowerCase()));
    const again = await start(link.hello.name);
    assert.equal(again.link.hello.name, link.hello.name);
    const bytes = seeded().bytes(999);
    assertSameBytes(await roundTrip(link, bytes), bytes, wanted);
  }
  await assert.rejects(start('Voodoo'), /both offers no adapter .*no adapter is called Voodoo; there is .*llvmpipe/);
});
