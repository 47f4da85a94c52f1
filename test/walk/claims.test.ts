// One computation for each key, however many ask: clients of a real server, over real connections, that die, fail and give up.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, afterEach, before, test } from 'node:test';
import { joinParts, tensorParts } from '../../core/contract/tensors.ts';
import { BlatamError, type Client, type ClientOptions, createClient } from '../../edge/client.ts';
import {
  adminKey,
  type Blatam,
  call,
  codeOf,
  type KeyFile,
  signed,
  startBlatam,
  tensorFile,
} from '../support/blatam.ts';
import { seeded } from '../support/seeded.ts';

const random = seeded();
let blatam: Blatam;
let key: KeyFile;

before(async () => {
  blatam = await startBlatam();
  key = adminKey(blatam.dataDir);
});
after(() => blatam.stop());
afterEach(async () => assert.deepEqual(await standing(), { claims: 0, waiting: 0 }));

const client = (options: Partial<ClientOptions> = {}): Client => createClient({ url: blatam.edge, ...key, ...options });
const fileOf = (value: number): Uint8Array =>
  joinParts(tensorParts([{ name: 'x', dtype: 'I32', shape: [1], data: new Uint8Array(Int32Array.of(value).buffer) }]));
const never = (): Promise<never> => new Promise(() => {});

/** Claims and those who wait for them, as the server counts them. */
async function standing(): Promise<{ claims: number; waiting: number }> {
  const text = await (await fetch(`${blatam.core}/metrics`)).text();
  const read = (name: string) => Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1]);
  return { claims: read('blatam_claims'), waiting: read('blatam_claims_waiting') };
}
async function stands(claims: number, waiting: number): Promise<void> {
  let found = await standing();
  for (const end = performance.now() + 20_000; performance.now() < end; found = await standing()) {
    if (found.claims === claims && found.waiting === waiting) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.deepEqual(found, { claims, waiting });
}
async function post(call_: string, said: object): Promise<Record<string, unknown> & { status: number }> {
  const body = Buffer.from(JSON.stringify(said));
  const url = `${blatam.edge}/v1/tensors:${call_}`;
  const answer = await call(key, 'POST', url, { body, headers: { 'content-type': 'application/json' } });
  return { ...((await answer.json()) as object), status: answer.status };
}

test('200 clients on 50 keys compute each key once', { timeout: 120_000 }, async (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const computed = new Map<number, number>();
  const ask = async (one: Client, k: number): Promise<void> => {
    const bytes = await one.getOrCompute(`once/${k}`, async () => {
      computed.set(k, (computed.get(k) ?? 0) + 1);
      await new Promise((resolve) => setTimeout(resolve, 50));
      return fileOf(k);
    });
    assert.deepEqual(bytes, fileOf(k));
  };
  await Promise.all(
    Array.from({ length: 200 }, async (_, i) => {
      const one = client();
      const keys = [i % 50, random.below(50), random.below(50)]; // the first ones leave no key out
      await Promise.all(keys.map((k) => ask(one, k)));
    }),
  );
  assert.deepEqual([...computed.values()], Array(50).fill(1));
  assert.equal(computed.size, 50);
});

test('a failing computation fails all that wait for it, and the next one computes anew', async () => {
  let computed = 0;
  let fail: (error: Error) => void = () => {};
  const compute = (): Promise<Uint8Array> => {
    computed++;
    return new Promise((_, reject) => {
      fail = reject;
    });
  };
  const owner = client();
  const owned = [owner.getOrCompute('fails', compute), owner.getOrCompute('fails', compute)];
  await stands(1, 0);
  const others = [client(), client()].map((one) => one.getOrCompute('fails', compute));
  await stands(1, 2);
  fail(new Error('the model has burnt'));
  for (const one of owned) await assert.rejects(one, /^Error: the model has burnt$/);
  for (const other of others)
    await assert.rejects(other, (error) => {
      assert.ok(error instanceof BlatamError);
      assert.equal(error.code, 'computation_failed');
      assert.equal(error.document.reason, 'the model has burnt');
      return true;
    });
  assert.equal(computed, 1);
  await stands(0, 0);
  assert.deepEqual(await client().getOrCompute('fails', async () => fileOf(1)), fileOf(1));
});

test('a computation for which nobody waits any more is cancelled, and leaves nothing', async () => {
  const first = new AbortController();
  const second = new AbortController();
  const signals: AbortSignal[] = [];
  const compute = (signal: AbortSignal) => {
    signals.push(signal);
    return never(); // and does not care
  };
  const one = client();
  const other = client();
  const gone = (promise: Promise<unknown>) => assert.rejects(promise, /enough/);
  const asked = [
    gone(one.getOrCompute('cancelled', compute, { signal: first.signal })),
    gone(one.getOrCompute('cancelled', compute, { signal: second.signal })),
  ];
  await stands(1, 0);
  const third = new AbortController();
  const waits = gone(other.getOrCompute('cancelled', compute, { signal: third.signal }));
  await stands(1, 1);
  first.abort(new Error('enough'));
  second.abort(new Error('enough'));
  await Promise.all(asked);
  await stands(1, 1); // it goes on for the one elsewhere
  assert.equal(signals[0]?.aborted, false);
  third.abort(new Error('enough'));
  await waits;
  await stands(0, 0);
  assert.equal(signals.length, 1);
  assert.equal(signals[0]?.aborted, true);
  assert.equal(await one.head('cancelled'), undefined);
});

test('an owner whose connections are cut is followed by one of those who wait', async () => {
  const dies = new AbortController();
  const compute = async (signal: AbortSignal) => (signal.aborted ? fileOf(0) : never());
  const owner = client({ signal: dies.signal });
  const owned = assert.rejects(owner.getOrCompute('followed', compute), /killed/);
  await stands(1, 0);
  const computed: number[] = [];
  const others = [1, 2, 3].map((i) =>
    client().getOrCompute('followed', async () => {
      computed.push(i);
      return fileOf(i);
    }),
  );
  await stands(1, 3);
  dies.abort(new Error('killed'));
  await owned;
  const found = await Promise.all(others);
  assert.equal(computed.length, 1);
  for (const bytes of found) assert.deepEqual(bytes, fileOf(computed[0] ?? 0));
});

test('the calls: held, yours, theirs; a claim that runs out is passed on', async () => {
  const mine = await post('claim', { key: 'calls', ttlMs: 60_000 });
  assert.equal(mine.state, 'yours');
  assert.deepEqual(await post('claim', { key: 'calls', waitMs: 1 }), { state: 'theirs', status: 200 });
  assert.equal((await post('renew', { key: 'calls', claim: mine.claim, ttlMs: 100 })).waiting, 0);
  const next = await post('claim', { key: 'calls' });
  assert.equal(next.state, 'yours');
  assert.notEqual(next.claim, mine.claim);
  const lost = await post('release', { key: 'calls', claim: mine.claim });
  assert.deepEqual([lost.status, lost.code], [409, 'claim_lost']);
  const waits = post('claim', { key: 'calls' });
  await stands(1, 1);
  const file = tensorFile(100);
  const put = await call(key, 'PUT', `${blatam.edge}/v1/tensors/calls?claim=${next.claim}`, { body: file });
  assert.equal(put.status, 201);
  const held = await waits;
  assert.equal(held.state, 'held');
  assert.equal((held.entry as { bytes: number }).bytes, file.length);
  const malformed = await call(key, 'PUT', `${blatam.edge}/v1/tensors/calls?claim=x`, { body: file });
  assert.equal(await codeOf(malformed), 'query_malformed');
});

test('an owner whose renewal is cut gives its claim up; who waits and is cut leaves the line', async () => {
  const mine = await post('claim', { key: 'cut', ttlMs: 600_000 });
  const cut = async (path: string, said: object) => {
    const body = Buffer.from(JSON.stringify(said));
    const url = `${blatam.edge}/v1/tensors:${path}`;
    const headers = { ...(await signed(key, 'POST', url, { body })), 'content-type': 'application/json' };
    const sent = request(url, { method: 'POST', headers });
    sent.on('error', () => {});
    sent.end(body);
    return sent;
  };
  const waits = await cut('claim', { key: 'cut', waitMs: 60_000 });
  await stands(1, 1);
  waits.destroy();
  await stands(1, 0);
  const renewal = await cut('renew', { key: 'cut', claim: mine.claim, ttlMs: 600_000, waitMs: 60_000 });
  const next = post('claim', { key: 'cut' });
  await stands(1, 1);
  renewal.destroy();
  const { state, claim } = await next;
  assert.equal(state, 'yours');
  await post('release', { key: 'cut', claim });
});

test('a value that cannot be stored is a value all the same', async () => {
  const wrong = new TextEncoder().encode('no safetensors');
  const told: unknown[] = [];
  const bytes = await client().getOrCompute('unstored', async () => wrong, { notStored: (error) => told.push(error) });
  assert.equal(bytes, wrong);
  assert.ok(told[0] instanceof BlatamError);
  assert.match(told[0].code, /^tensors_/);
});

test('SIGTERM tells those who wait, and ends in time', async () => {
  const short = await startBlatam();
  const shortKey = adminKey(short.dataDir);
  const ends = new AbortController();
  const one = () => createClient({ url: short.edge, ...shortKey, signal: ends.signal });
  const compute = () => never();
  const owned = assert.rejects(one().getOrCompute('k', compute));
  let told = 0;
  await new Promise((resolve) => setTimeout(resolve, 500));
  const waits = Array.from({ length: 5 }, () =>
    assert
      .rejects(one().getOrCompute('k', compute), (error) => {
        assert.ok(error instanceof BlatamError, String(error));
        return error.code === 'stopping';
      })
      .then(() => told++),
  );
  await new Promise((resolve) => setTimeout(resolve, 500));
  process.kill(short.pid, 'SIGTERM');
  await Promise.all(waits);
  assert.equal(told, 5);
  const { code } = await short.exited;
  assert.equal(code, 0);
  ends.abort(new Error('the end')); // the owner goes on computing, and finds nobody to tell
  await owned;
  await short.stop();
});

test('who joins while the last one before it leaves, and the server cannot be asked, is not left behind', async () => {
  const asked = Promise.withResolvers<void>();
  const cut = Promise.withResolvers<never>();
  const one = client({
    fetch: (url, init) => {
      const isQuestion = String(url).endsWith(':renew') && Buffer.from(init?.body as Uint8Array).includes('"waitMs":0');
      if (!isQuestion) return fetch(url, init);
      asked.resolve();
      return cut.promise;
    },
  });
  const computing = Promise.withResolvers<void>();
  const value = Promise.withResolvers<Uint8Array>();
  const compute = () => {
    computing.resolve();
    return value.promise;
  };
  const leaver = new AbortController();
  const left = assert.rejects(one.getOrCompute('joined', compute, { signal: leaver.signal }), /enough/);
  await computing.promise;
  leaver.abort(new Error('enough'));
  await left;
  await asked.promise;
  const joined = one.getOrCompute('joined', never);
  cut.reject(new TypeError('the line is dead'));
  await new Promise((resolve) => setTimeout(resolve, 20));
  value.resolve(fileOf(7));
  assert.deepEqual(await joined, fileOf(7));
});
