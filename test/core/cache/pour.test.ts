// A body on its way in: each byte to each sink once, each fault of the format said by its code, and all pieces back
// whatever happens.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, afterEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { openDigests } from '../../../core/cache/digest.ts';
import { type Body, type Poured, type PourOptions, pour, type Sink } from '../../../core/cache/pour.ts';
import type { ProblemCode } from '../../../core/contract/problems.ts';
import { HEADER_BYTES_MAX, joinParts, type TensorData, tensorParts } from '../../../core/contract/tensors.ts';
import { openPieces, PIECE_BYTES } from '../../../core/gpu/pieces.ts';
import { takeAll } from '../../support/adapters.ts';
import { assertSameBytes } from '../../support/bytes.ts';
import { seeded } from '../../support/seeded.ts';
import { until } from '../../support/until.ts';

const MiB = 1 << 20;
const random = seeded();
const pieces = await openPieces({ count: 10, shared: true });
const digests = openDigests(pieces);
const alive = setInterval(() => {}, 1000); // the thread that hashes keeps no process alive
after(async () => {
  clearInterval(alive);
  await digests.close();
});
afterEach(() => {
  assert.equal(pieces.free, pieces.count, 'a piece was kept');
  assert.equal(pieces.waiting, 0);
});

const tensorFile = (bytes: number): Uint8Array => {
  const data: TensorData = { name: 'x', dtype: 'U8', shape: [bytes], data: random.bytes(bytes) };
  return joinParts(tensorParts([data]));
};
const prefixed = (header: string | Uint8Array, data = 0, announced?: bigint): Uint8Array => {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, announced ?? BigInt(json.length), true);
  return joinParts([prefix, json, new Uint8Array(data)]);
};

interface Feed {
  body: Body;
  /** Bytes that were asked for. */
  taken: () => number;
  ended: () => boolean;
}

/** A body in chunks that end at `cuts`; without `announced` its length is not said. */
function feed(bytes: Uint8Array, cuts: Iterable<number>, announced: boolean): Feed {
  let taken = 0;
  let ended = false;
  async function* chunks(): AsyncGenerator<Uint8Array, void, void> {
    try {
      for (const cut of [...cuts, bytes.length]) {
        const chunk = Uint8Array.from(bytes.subarray(taken, cut));
        taken = cut;
        yield chunk;
        chunk.fill(0xee); // its memory is somebody else's once the next is asked for
      }
    } finally {
      ended = true;
    }
  }
  return {
    body: { chunks: chunks(), length: announced ? bytes.length : undefined },
    taken: () => taken,
    ended: () => ended,
  };
}

function* every(step: number, length: number): Generator<number> {
  for (let at = step; at < length; at += step) yield at;
}

/** A sink that keeps what it is given, and looks after it for a while. */
function keeping() {
  const parts = new Map<number, Uint8Array>();
  const sink: Sink = async (piece, length, offset) => {
    assert.ok(!parts.has(offset), `offset ${offset} came twice`);
    await turn();
    parts.set(offset, Uint8Array.from(piece.bytes.subarray(0, length)));
  };
  return {
    sink,
    bytes: () => Buffer.concat([...parts].sort(([a], [b]) => a - b).map(([, part]) => part)),
    /** Each offset is where the parts before it end. */
    offsets: () => [...parts.keys()].sort((a, b) => a - b),
  };
}

const run = (body: Body, options: Partial<PourOptions> = {}): Promise<Poured> =>
  pour(body, {
    pieces,
    digests,
    bytesMax: 64 * MiB,
    signal: AbortSignal.timeout(30_000), // where a piece was kept, others would wait for ever
    digest: undefined,
    sinks: async () => [],
    ...options,
  });

async function pours(bytes: Uint8Array, cuts: Iterable<number>, announced: boolean): Promise<void> {
  const [first, second] = [keeping(), keeping()];
  const { body, ended } = feed(bytes, cuts, announced);
  const { layout, digest } = await run(body, { sinks: async () => [first.sink, second.sink] });
  assert.equal(layout.totalBytes, bytes.length);
  assertSameBytes(digest, createHash('sha256').update(bytes).digest(), 'the digest');
  assertSameBytes(first.bytes(), bytes, 'the first sink');
  assertSameBytes(second.bytes(), bytes, 'the second sink');
  assert.ok(first.offsets().every((offset) => offset % PIECE_BYTES === 0));
  assert.equal(ended(), true);
}

const ways = [true, false] as const;

test('pour() gives each sink every byte once, wherever a small body is cut', async () => {
  const bytes = tensorFile(60);
  for (const announced of ways) {
    for (let cut = 0; cut <= bytes.length; cut++) await pours(bytes, [cut], announced);
    await pours(bytes, every(1, bytes.length), announced);
    await pours(bytes, [], announced);
  }
});

test('pour() does so wherever a large body is cut, around the ends of pieces too', async () => {
  for (const size of [65_536 - 80, 65_536, PIECE_BYTES - 80, PIECE_BYTES, 2 * PIECE_BYTES + 3]) {
    const bytes = tensorFile(size);
    for (const announced of ways) {
      await pours(bytes, every(65_536, bytes.length), announced);
      await pours(bytes, every(PIECE_BYTES, bytes.length), announced);
      await pours(bytes, [], announced);
    }
  }
  const bytes = tensorFile(PIECE_BYTES + 100);
  for (let cut = PIECE_BYTES - 2; cut <= PIECE_BYTES + 2; cut++) await pours(bytes, [cut, cut], false);
});

test('pour() takes a body that ends where a piece ends', async () => {
  const file = tensorFile(PIECE_BYTES - 72);
  const bytes = tensorFile(PIECE_BYTES - 72 + (PIECE_BYTES - file.length));
  assert.equal(bytes.length, PIECE_BYTES);
  for (const announced of ways) await pours(bytes, every(1 << 16, bytes.length), announced);
});

test('pour() takes a header as long as headers may be', async () => {
  const header = new Uint8Array(HEADER_BYTES_MAX).fill(0x20);
  header.set(new TextEncoder().encode('{}'));
  for (const announced of ways) await pours(prefixed(header), every(100_000, 8 + header.length), announced);
});

test('pour() of small bodies takes no shared piece', async () => {
  const held = await takeAll(pieces);
  const bytes = tensorFile(1000);
  await pours(bytes, [500], true);
  for (const piece of held) piece.release();
});

test('pour() trusts a digest that is proven, and computes none; else it refuses a body that differs', async () => {
  const { body } = feed(tensorFile(100), [], true);
  const known = Uint8Array.of(1, 2, 3);
  assert.equal((await run(body, { digest: { bytes: known, proven: true } })).digest, known);
  for (const size of [100, 2 * MiB]) {
    const file = tensorFile(size);
    const bytes = createHash('sha256').update(file).digest();
    const right = run(feed(file, [], true).body, { digest: { bytes, proven: false } });
    assert.deepEqual(Buffer.from((await right).digest), bytes);
    const other = run(feed(file, [], true).body, { digest: { bytes: bytes.map((byte) => byte ^ 1), proven: false } });
    await assert.rejects(other, { code: 'digest_mismatch' });
  }
});

/** What the format refuses, with a body for each. */
const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;
const faults: [ProblemCode, Uint8Array][] = [
  ['tensors_truncated', new Uint8Array(0)],
  ['tensors_truncated', new Uint8Array(7)],
  ['tensors_truncated', prefixed('{}', 0, 3n)],
  ['tensors_truncated', prefixed(`{"x":${entry('U8', '[5]', '[0,5]')}}`, 4)],
  ['tensors_trailing', prefixed(`{"x":${entry('U8', '[5]', '[0,5]')}}`, 6)],
  ['tensors_trailing', prefixed('{}', 1)],
  ['tensors_header_too_large', prefixed('{}', 0, BigInt(HEADER_BYTES_MAX) + 1n)],
  ['tensors_header_too_large', prefixed('{}', 0, 2n ** 64n - 1n)],
  ['tensors_header_malformed', prefixed('{}', 0, 0n)],
  ['tensors_header_malformed', prefixed('{]')],
  ['tensors_name_duplicate', prefixed(`{"x":${entry('U8', '[0]', '[0,0]')},"x":${entry('U8', '[0]', '[0,0]')}}`)],
  ['tensors_dtype_unknown', prefixed(`{"x":${entry('U7', '[1]', '[0,1]')}}`, 1)],
  ['tensors_shape_malformed', prefixed(`{"x":${entry('U8', '[-1]', '[0,1]')}}`, 1)],
  ['tensors_shape_overflow', prefixed(`{"x":${entry('U8', '[9007199254740991,9]', '[0,1]')}}`, 1)],
  ['tensors_offsets_malformed', prefixed(`{"x":${entry('U8', '[1]', '[1,0]')}}`, 1)],
  ['tensors_length_mismatch', prefixed(`{"x":${entry('U8', '[2]', '[0,1]')}}`, 1)],
  ['tensors_overlap', prefixed(`{"x":${entry('U8', '[2]', '[0,2]')},"y":${entry('U8', '[2]', '[1,3]')}}`, 3)],
  ['tensors_gap', prefixed(`{"x":${entry('U8', '[1]', '[1,2]')}}`, 2)],
];

for (const [i, [code, bytes]] of faults.entries())
  test(`pour() refuses ${code} (${i + 1}), in one chunk and byte by byte`, async () => {
    for (const announced of ways)
      for (const step of [bytes.length || 1, 1]) {
        let asked = 0;
        const { body } = feed(bytes, every(step, bytes.length), announced);
        const sinks = async () => {
          asked++;
          return [];
        };
        await assert.rejects(run(body, { sinks }), { code, status: 422 });
        // Bytes that are missing, or are too many, may show only at the end.
        if (code !== 'tensors_truncated') assert.equal(asked, 0, 'sinks for a body that is refused');
      }
  });

test('pour() refuses a large body by its first piece, and asks for no more of it', async () => {
  const tensor = (length: number) => `{"x":${entry('U8', `[${length}]`, `[0,${length}]`)}}`;
  const size = 24 * MiB;
  const refused: { code: ProblemCode; header: string; onlyAnnounced?: true }[] = [
    { code: 'tensors_gap', header: `{"x":${entry('U8', '[5]', '[1,6]')}}` },
    { code: 'body_too_large', header: tensor(80 * MiB) },
    { code: 'tensors_trailing', header: tensor(100) },
    { code: 'tensors_trailing', header: tensor(size - 1), onlyAnnounced: true }, // else its end tells
    { code: 'tensors_truncated', header: tensor(size + 1), onlyAnnounced: true },
  ];
  for (const { code, header, onlyAnnounced } of refused)
    for (const announced of ways) {
      if (code === 'body_too_large' && announced) continue; // there it is too short for its header
      const bytes = prefixed(header, size);
      const { body, taken, ended } = feed(bytes, every(65_536, bytes.length), announced);
      await assert.rejects(run(body, { sinks: async () => [keeping().sink] }), { code });
      assert.equal(ended(), true, 'the body is left open');
      if (announced || !onlyAnnounced) assert.ok(taken() <= PIECE_BYTES + 65_536, `${taken()} bytes were taken`);
    }
});

test('pour() refuses a body of unknown length that goes on behind its tensors, in the first piece and later', async () => {
  const short = prefixed(`{"x":${entry('U8', '[5]', '[0,5]')}}`, 5);
  for (const more of [1, 1000, PIECE_BYTES, 2 * PIECE_BYTES]) {
    const sink = keeping();
    const { body } = feed(joinParts([short, new Uint8Array(more)]), [], false);
    await assert.rejects(run(body, { sinks: async () => [sink.sink] }), { code: 'tensors_trailing' });
    assert.deepEqual(sink.offsets(), [], 'bytes beyond the tensors came to a sink');
  }
  const long = joinParts([tensorFile(PIECE_BYTES + 1000), new Uint8Array(50)]);
  await assert.rejects(run(feed(long, every(65_536, long.length), false).body), { code: 'tensors_trailing' });
});

test('pour() refuses a body over the limit: announced, or by its header', async () => {
  const bytes = tensorFile(5000);
  for (const announced of ways) {
    const { body, taken } = feed(bytes, [], announced);
    const limited = run(body, { bytesMax: bytes.length - 1 });
    await assert.rejects(limited, { code: 'body_too_large', status: 413, extra: { bytesMax: bytes.length - 1 } });
    if (announced) assert.equal(taken(), 0);
    await run(feed(bytes, [], announced).body, { bytesMax: bytes.length });
  }
});

test('pour() refuses chunks beyond an announced length', async () => {
  for (const size of [0, 100, 70_000]) {
    const bytes = size === 0 ? new Uint8Array(0) : tensorFile(size);
    const { body } = feed(joinParts([bytes, Uint8Array.of(1)]), [bytes.length], false);
    await assert.rejects(run({ ...body, length: bytes.length }), { code: 'tensors_trailing' });
  }
});

test('pour() refuses a body that ends before its announced length', async () => {
  for (const size of [100, 70_000, PIECE_BYTES + 5]) {
    const bytes = tensorFile(size);
    const { body } = feed(bytes.subarray(0, -1), every(65_536, size), false);
    await assert.rejects(run({ ...body, length: bytes.length }), { code: 'tensors_truncated' });
  }
});

const bigBody = () => feed(tensorFile(5 * PIECE_BYTES), every(65_536, 5 * PIECE_BYTES + 80), true);

test('pour() passes the failure of a sink on, once all others are done', async () => {
  for (const fail of [
    () => Promise.reject(new Error('no')),
    () => {
      throw new Error('no'); // at once
    },
  ]) {
    let slow = 0;
    const sinks: Sink[] = [
      (_piece, _length, offset) => (offset > 0 ? fail() : Promise.resolve()),
      async () => {
        slow++;
        for (let i = 0; i < 20; i++) await turn();
        slow--;
      },
    ];
    const { body, taken, ended } = bigBody();
    await assert.rejects(run(body, { sinks: async () => sinks }), /^Error: no$/);
    assert.equal(slow, 0, 'a sink still works');
    assert.equal(pieces.free, pieces.count);
    assert.equal(ended(), true);
    assert.ok(taken() < 5 * PIECE_BYTES, 'the body was read to its end');
  }
});

test('pour() fails with a sink that fails without a reason', async () => {
  const { body } = feed(tensorFile(10), [], true);
  await assert.rejects(run(body, { sinks: async () => [() => Promise.reject(undefined)] }), /without a reason/);
});

test('pour() passes on that there are no sinks to be had', async () => {
  for (const { body } of [bigBody(), feed(tensorFile(10), [], true)])
    await assert.rejects(run(body, { sinks: () => Promise.reject(new Error('no room')) }), /no room/);
});

test('pour() passes the failure of the body on', async () => {
  const { body } = bigBody();
  async function* broken(): AsyncGenerator<Uint8Array> {
    let n = 0;
    for await (const chunk of body.chunks) {
      if (++n === 100) throw new Error('the connection ended');
      yield chunk;
    }
  }
  const sink = keeping();
  await assert.rejects(run({ ...body, chunks: broken() }, { sinks: async () => [sink.sink] }), /connection ended/);
});

test('pour() ends at the next chunk after its signal aborted', async () => {
  const controller = new AbortController();
  const { body, taken, ended } = bigBody();
  const sink: Sink = async (_piece, _length, offset) => {
    if (offset > 0) controller.abort(new Error('the caller left'));
  };
  const options = { signal: controller.signal, sinks: async () => [sink] };
  await assert.rejects(run(body, options), /the caller left/);
  assert.ok(taken() <= 2 * PIECE_BYTES + 2 * 65_536);
  assert.equal(ended(), true);
});

test('pour() leaves the line for pieces when its signal aborts', async () => {
  const held = await takeAll(pieces);
  const controller = new AbortController();
  const { body } = bigBody();
  const waiting = run(body, { signal: controller.signal });
  await until(() => pieces.waiting > 0, 'somebody waits for a piece');
  controller.abort(new Error('the caller left'));
  await assert.rejects(waiting, /the caller left/);
  assert.equal(pieces.waiting, 0);
  for (const piece of held) piece.release();
});

test('pour() waits for pieces, and goes on when they come', async () => {
  const held = await takeAll(pieces);
  const bytes = tensorFile(3 * PIECE_BYTES);
  const waiting = pours(bytes, every(65_536, bytes.length), true);
  await until(() => pieces.waiting > 0, 'somebody waits for a piece');
  held.pop()?.release(); // one is enough for any body
  await waiting;
  for (const piece of held) piece.release();
});

test('pour() of one body leaves pieces for others, however slow its sinks are', async () => {
  const gate = Promise.withResolvers<void>();
  const slow = bigBody().body;
  const size = 12 * PIECE_BYTES;
  const bytes = tensorFile(size);
  const first = run(feed(bytes, every(65_536, bytes.length), true).body, { sinks: async () => [() => gate.promise] });
  await until(() => pieces.free === 2, 'it holds what one body may');
  for (let i = 0; i < 200; i++) await turn();
  assert.equal(pieces.free, 2);
  await run(slow);
  gate.resolve();
  await first;
});

test('pour() of many bodies at once keeps each apart', async () => {
  await Promise.all(
    Array.from({ length: 12 }, async (_, i) => {
      const bytes = tensorFile(1 + random.below(i % 3 === 0 ? 2 * PIECE_BYTES : 200_000));
      await pours(bytes, every(1 + random.below(65_536), bytes.length), i % 2 === 0);
    }),
  );
});

test('pour() ends pieces where `cut` says, whatever the chunks', async () => {
  const file = tensorFile(9 * MiB + 77);
  const step = 1_300_001;
  for (const [chunk, announced] of [
    [65_536, true],
    [5 * MiB, false],
  ] as const) {
    const kept = keeping();
    const { layout } = await run(feed(file, every(chunk, file.length), announced).body, {
      sinks: async () => [kept.sink],
      cut: ({ headerBytes }, offset) =>
        offset < headerBytes ? headerBytes : headerBytes + (Math.floor((offset - headerBytes) / step) + 1) * step,
    });
    assertSameBytes(kept.bytes(), file, 'the sink');
    const { headerBytes } = layout;
    const cuts = [...every(step, file.length - headerBytes)].map((at) => headerBytes + at);
    assert.deepEqual(kept.offsets(), [0, headerBytes, ...cuts]);
  }
});
