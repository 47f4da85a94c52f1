// Two adapters behind the edge, as an operator handles them: what each call does, who may call, and what is refused how.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { SOURCE } from '../support/adapters.ts';
import {
  adminKey,
  type Blatam,
  call,
  codeOf,
  type KeyFile,
  sha256,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';

const LAVAPIPE = '/usr/share/vulkan/icd.d/lvp_icd.json';
const SECOND = existsSync(LAVAPIPE) ? LAVAPIPE : SOURCE;

interface Memory {
  readonly used: number;
  readonly capacity: number;
  readonly asked: number;
  readonly idle: number;
  readonly freeSlabs: number;
  readonly slabs: number;
}
interface Report {
  readonly id: string;
  readonly state: string;
  readonly source: string;
  readonly restarts: number;
  readonly utilization: number;
  readonly bytesInFlight: number;
  readonly memory: Memory;
}

describe('two adapters', () => {
  let blatam: Blatam;
  let key: KeyFile;
  const files = new Map<string, Uint8Array>();

  before(async () => {
    blatam = await startBlatam({ environment: { GPU_ADAPTERS: `${SOURCE},${SECOND}` } });
    key = adminKey(blatam.dataDir);
    for (const [i, bytes] of [500, 70_000, 300_000, 5 << 20].entries()) files.set(`walk/${i}`, tensorFile(bytes));
    for (const [name, body] of files)
      assert.equal((await call(key, 'PUT', at(`/v1/tensors/${name}`), { body })).status, 201);
  });
  after(() => blatam.stop());

  const at = (path: string, base = blatam.edge) => `${base}${path}`;
  const post = (path: string, body?: unknown, base = blatam.edge): Promise<Response> => {
    const bytes = body === undefined ? undefined : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
    const headers = { 'content-type': 'application/json' };
    return call(key, 'POST', at(path, base), bytes ? { body: bytes, headers } : {});
  };
  const answerOf = async (answer: Response): Promise<Record<string, unknown>> => {
    assert.equal(answer.status, 200, await answer.clone().text());
    return (await answer.json()) as Record<string, unknown>;
  };
  const reports = async (): Promise<Report[]> => {
    const { adapters } = (await answerOf(await call(key, 'GET', at('/v1/adapters')))) as { adapters: Report[] };
    return adapters;
  };
  const places = async (): Promise<(string | null)[]> => {
    const { entries } = (await answerOf(await call(key, 'GET', at('/v1/tensors', blatam.edge)))) as {
      entries: { adapter: string | null }[];
    };
    return entries.map(({ adapter }) => adapter);
  };
  const assertBytes = async (): Promise<void> => {
    for (const [name, body] of files) {
      const got = await call(key, 'GET', at(`/v1/tensors/${name}`));
      assert.deepEqual(sha256(new Uint8Array(await got.arrayBuffer())), sha256(body), name);
    }
  };

  test('GET /v1/adapters tells state, use and memory of each', async () => {
    const [first, second] = await reports();
    assert.deepEqual([first?.source, second?.source], [SOURCE, SECOND]);
    for (const { state, memory, utilization, bytesInFlight } of [first, second] as Report[]) {
      assert.equal(state, 'ready');
      assert.ok(memory.asked <= memory.used && memory.used + memory.idle <= memory.capacity);
      assert.equal(memory.capacity - memory.used - memory.idle, memory.freeSlabs * (4 << 20));
      assert.ok(utilization >= 0 && utilization <= 1 && bytesInFlight === 0);
    }
  });

  for (const where of ['edge', 'core'] as const)
    test(`POST /v1/tensors:move moves a key or a prefix, and counts (${where})`, async () => {
      const base = blatam[where];
      const all = await answerOf(await post('/v1/tensors:move', { prefix: 'walk/', adapter: 'adapter-0' }, base));
      assert.equal(Number(all.moved) + Number(all.there), files.size);
      assert.deepEqual(await places(), Array(files.size).fill('adapter-0'));
      const one = await answerOf(await post('/v1/tensors:move', { key: 'walk/3', adapter: 'adapter-1' }, base));
      const bytes = files.get('walk/3')?.length;
      assert.deepEqual(one, { adapter: 'adapter-1', moved: 1, bytes, there: 0, cold: 0, noRoom: 0, gone: 0 });
      assert.deepEqual(await places(), ['adapter-0', 'adapter-0', 'adapter-0', 'adapter-1']);
      await assertBytes();
    });

  test('drain, resume and restart do what they say, and the tensors stay', async () => {
    const done = await answerOf(await post('/v1/adapters/adapter-0/drain'));
    assert.deepEqual([done.adapter, done.moved, done.left, done.kept, done.state], ['adapter-0', 3, 0, 0, 'drained']);
    assert.deepEqual(await places(), Array(files.size).fill('adapter-1'));
    assert.equal((await reports())[0]?.state, 'drained');
    assert.match(
      await (await fetch(at('/metrics', blatam.core))).text(),
      /blatam_adapter_draining\{adapter="adapter-0"\} 1/,
    );
    await assertBytes();
    assert.deepEqual(await answerOf(await post('/v1/adapters/adapter-0/resume')), {
      adapter: 'adapter-0',
      state: 'ready',
    });

    assert.deepEqual(await answerOf(await post('/v1/adapters/adapter-1/restart')), {
      adapter: 'adapter-1',
      state: 'ready',
      restarts: 1,
      cold: files.size,
      lost: 0,
    });
    await assertBytes();
  });

  test('POST /v1/cache/check finds no fault', async () => {
    assert.deepEqual(await answerOf(await post('/v1/cache/check')), { ok: true, faults: [] });
    assert.deepEqual(await answerOf(await post('/v1/cache/check?pages=true')), { ok: true, faults: [], pages: 0 });
  });

  const MOVE = '/v1/tensors:move';
  for (const [name, path, body, status, code] of [
    ['an unknown adapter', '/v1/adapters/adapter-9/drain', undefined, 404, 'adapter_unknown'],
    ['an unknown adapter', '/v1/adapters/adapter-9/resume', undefined, 404, 'adapter_unknown'],
    ['an unknown adapter', '/v1/adapters/x%2Fy/restart', undefined, 404, 'adapter_unknown'],
    ['an unknown adapter', MOVE, { prefix: '', adapter: 'x' }, 404, 'adapter_unknown'],
    ['an unknown key', MOVE, { key: 'nothing', adapter: 'adapter-0' }, 404, 'tensor_unknown'],
    ['both key and prefix', MOVE, { key: 'a', prefix: 'a', adapter: 'adapter-0' }, 422, 'body_malformed'],
    ['neither key nor prefix', MOVE, { adapter: 'adapter-0' }, 422, 'body_malformed'],
    ['a malformed key', MOVE, { key: '../x y', adapter: 'adapter-0' }, 422, 'body_malformed'],
    ['another word', MOVE, { key: 'a', adapter: 'adapter-0', force: true }, 422, 'body_malformed'],
    ['no JSON', MOVE, '{', 422, 'body_malformed'],
    ['no object', MOVE, '[]', 422, 'body_malformed'],
    ['too much', MOVE, { key: 'a'.repeat(70_000), adapter: 'adapter-0' }, 413, 'body_too_large'],
  ] as const)
    test(`POST ${path} with ${name} is ${status} ${code}`, async () => {
      for (const base of [blatam.edge, blatam.core]) {
        const answer = await post(path, body, base);
        assert.deepEqual([answer.status, await codeOf(answer)], [status, code]);
      }
    });

  test('POST /v1/tensors:move in another media type, or with another body than was signed, is refused', async () => {
    const body = Buffer.from(JSON.stringify({ prefix: '', adapter: 'adapter-0' }));
    const text = await call(key, 'POST', at(MOVE), { body, headers: { 'content-type': 'text/plain' } });
    assert.deepEqual([text.status, await codeOf(text)], [415, 'media_type_unsupported']);
    for (const base of [blatam.edge, blatam.core]) {
      const headers = { 'content-type': 'application/json' };
      const other = await call(key, 'POST', at(MOVE, base), { body, headers, digest: sha256(Buffer.from('other')) });
      assert.deepEqual([other.status, await codeOf(other)], [401, 'digest_mismatch']);
    }
  });

  test('a call that is not signed moves nothing', async () => {
    for (const path of [MOVE, '/v1/adapters/adapter-0/drain', '/v1/cache/check']) {
      const answer = await fetch(at(path), { method: 'POST' });
      assert.equal(answer.status, 401);
    }
  });
});
