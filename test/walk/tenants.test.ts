// Two tenants on one server. What one asks about the other's tensors, claims, tokens and pins is answered to the letter as
// if nobody had them, in status, headers and body, and in times that tell nothing; and one who floods adapters pushes out
// nothing of what another has within its share.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { BlatamError, type Client, createClient } from '../../edge/client.ts';
import {
  type Blatam,
  type CallOptions,
  call,
  type KeyFile,
  sha256,
  signed,
  startBlatam,
  temporaryFolder,
  tensorFile,
} from '../support/blatam.ts';
import { seeded } from '../support/seeded.ts';
import { keysOf } from '../support/tenants.ts';

const MiB = 1 << 20;
const JSON_TYPE = { 'content-type': 'application/json' };
const SAFETENSORS = { 'content-type': 'application/vnd.safetensors' };
const SHAPE = { layers: 1, kvHeads: 1, dim: 64 };
const PAIRS = 150;
/** Six standard deviations of a fair coin. */
const LEANING_MAX = 3 / Math.sqrt(PAIRS);
const random = seeded();

let blatam: Blatam;
let spy: KeyFile;
let other: KeyFile;
let own: Client;
let others: Client;

before(async () => {
  const dataDir = temporaryFolder();
  const [first, second] = await keysOf(dataDir, 'spy', 'other');
  assert.ok(first && second);
  blatam = await startBlatam({ dataDir, environment: { GPU_MEMORY_MIB: '128', TENANT_MEMORY_PERCENT: '60' } });
  [spy, other] = [first, second];
  own = createClient({ url: blatam.edge, ...first });
  others = createClient({ url: blatam.edge, ...second });
});
after(() => blatam?.stop());

const tokensOf = (n: number) => Int32Array.from({ length: n }, () => random.below(30_000));
const numbers = (tokens: Int32Array) => Float32Array.from({ length: tokens.length * SHAPE.dim }, () => random.next());
const sequence = (tokens: Int32Array) => ({
  ...{ model: 'm', shape: SHAPE, dtype: 'F32' as const, tokens, k: numbers(tokens), v: numbers(tokens) },
});

/** What can be asked about: all of it the other's, or nobody's. Names are as long. */
interface Subject {
  readonly key: string;
  readonly file: Uint8Array;
  readonly etag: string;
  /** Of a key that is being computed. */
  readonly claimed: string;
  readonly claim: string;
  readonly tokens: Int32Array;
  readonly pin: string;
}

type Question = readonly [method: string, path: string, options?: CallOptions];
const post = (path: string, said: unknown): Question => [
  'POST',
  path,
  { body: Buffer.from(JSON.stringify(said)), headers: JSON_TYPE },
];

/** Each call of the API that names something. */
const QUESTIONS: Readonly<Record<string, (about: Subject) => Question>> = {
  'GET a tensor': ({ key }) => ['GET', `/v1/tensors/${key}`],
  'GET a tensor unless it is the one': ({ key, etag }) => [
    'GET',
    `/v1/tensors/${key}`,
    { headers: { 'if-none-match': etag } },
  ],
  'HEAD a tensor': ({ key }) => ['HEAD', `/v1/tensors/${key}`],
  'DELETE a tensor': ({ key }) => ['DELETE', `/v1/tensors/${key}`],
  'list under its name': ({ key }) => ['GET', `/v1/tensors?prefix=${key}`],
  'list after the name before it': ({ key }) => ['GET', `/v1/tensors?cursor=${key.slice(0, -1)}`],
  'get by a batch': ({ key }) => post('/v1/tensors:batch', { get: [key] }),
  'move a tensor': ({ key }) => post('/v1/tensors:move', { key, adapter: 'adapter-0' }),
  'move what is under a prefix': ({ key }) => post('/v1/tensors:move', { prefix: key, adapter: 'adapter-0' }),
  'PUT what the other has under a name of its own': ({ key, file }) => [
    'PUT',
    `/v1/tensors/spy/${key}?durability=none`,
    { body: file, headers: SAFETENSORS },
  ],
  'DELETE that': ({ key }) => ['DELETE', `/v1/tensors/spy/${key}`],
  'claim a key': ({ key }) => post('/v1/tensors:claim', { key, ttlMs: 100, waitMs: 0 }),
  'claim a key that is being computed': ({ claimed }) =>
    post('/v1/tensors:claim', { key: claimed, ttlMs: 100, waitMs: 0 }),
  'renew a claim': ({ claimed, claim }) => post('/v1/tensors:renew', { key: claimed, claim, ttlMs: 1000, waitMs: 0 }),
  'release a claim': ({ claimed, claim }) => post('/v1/tensors:release', { key: claimed, claim, reason: 'none' }),
  lookup: ({ tokens }) => post('/v1/kv/lookup', { model: 'm', tokens: [...tokens], explain: true, use: true }),
  'lookup of a part': ({ tokens }) =>
    post('/v1/kv/lookup', { model: 'm', tokens: [...tokens.subarray(0, 70)], explain: true }),
  'lookup of what diverges': ({ tokens }) =>
    post('/v1/kv/lookup', { model: 'm', tokens: [...tokens.subarray(0, 100), ...Array(100).fill(1)], explain: true }),
  'lookup in another layout': ({ tokens }) =>
    post('/v1/kv/lookup', { model: 'm', tokens: [...tokens], explain: true, layout: { layers: 7 } }),
  'lookup under a salt': ({ tokens }) =>
    post('/v1/kv/lookup', { model: 'm', tokens: [...tokens], explain: true, salt: 's' }),
  load: ({ tokens }) => post('/v1/kv/load', { model: 'm', tokens: [...tokens], dtype: 'F32' }),
  pin: ({ tokens }) => post('/v1/kv/pin', { model: 'm', tokens: [...tokens], ttl: 60 }),
  'unpin by the id': ({ pin }) => post('/v1/kv/unpin', { pin }),
  'unpin by tokens': ({ tokens }) => post('/v1/kv/unpin', { model: 'm', tokens: [...tokens] }),
  recode: ({ tokens }) => post('/v1/kv/recode', { model: 'm', tokens: [...tokens], codecK: 'q8r' }),
  'move blocks': ({ tokens }) => post('/v1/kv/move', { model: 'm', tokens: [...tokens], adapter: 'adapter-0' }),
  'clear a beginning': ({ tokens }) => post('/v1/kv/clear', { model: 'm', prefix: [...tokens.subarray(0, 64)] }),
  'clear all': () => post('/v1/kv/clear', {}),
};

const ask = ([method, path, options]: Question): Promise<Response> =>
  call(spy, method, `${blatam.edge}${path}`, options);

/** What makes two answers of one server differ at any rate. */
const PASSING = ['date', 'x-request-id', 'keep-alive', 'server-timing', 'ratelimit']; // the last is what the asker itself has used

/** All that is answered, names and what is random apart. */
async function answered(question: Question, about: Subject): Promise<unknown> {
  const answer = await ask(question);
  const headers = [...answer.headers].filter(([name]) => !PASSING.includes(name));
  const text = Buffer.from(await answer.arrayBuffer()).toString('latin1');
  const plain = text
    .replaceAll(about.key, 'KEY')
    .replaceAll(about.claimed, 'CLAIMED')
    .replaceAll(about.pin, 'PIN')
    .replaceAll(about.etag.replaceAll('"', ''), 'DIGEST')
    .replace(/"claim":"[0-9a-f]+"|"requestId":"[^"]+"|\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'RANDOM');
  return {
    status: answer.status,
    headers: headers.map(([name, value]) => [name, value.replaceAll(about.etag, 'ETAG')]),
    plain,
  };
}

let named = 0;
const nobodys = (): Subject => {
  const number = 100_000 + named++;
  const file = tensorFile(5000);
  return {
    ...{ key: `none/${number}`, claimed: `late/${number}`, claim: Buffer.from(random.bytes(16)).toString('hex') },
    ...{ file, etag: `"${Buffer.from(sha256(file)).toString('hex')}"`, tokens: tokensOf(200) },
    pin: `${Buffer.from(random.bytes(4)).toString('hex')}-0000-4000-8000-000000000000`,
  };
};

/** The other has all of it. */
async function theirs(): Promise<Subject> {
  const about = nobodys();
  await others.put(about.key, about.file);
  const claim = await call(other, 'POST', `${blatam.edge}/v1/tensors:claim`, {
    body: Buffer.from(JSON.stringify({ key: about.claimed, ttlMs: 600_000 })),
    headers: JSON_TYPE,
  });
  await others.kv.store(sequence(about.tokens));
  const { pin } = await others.kv.pin({ model: 'm', tokens: about.tokens, ttl: 600 });
  return { ...about, claim: ((await claim.json()) as { claim: string }).claim, pin };
}

/** All that the other can see of its own. */
async function heldByOther(about: Subject): Promise<unknown> {
  const { entries } = await others.list();
  const { blocks } = await others.kv.lookup({ model: 'm', tokens: about.tokens });
  return { entries, blocks, policy: await others.cache.policy() };
}

test('what another has is answered as if nobody had it, whatever is asked', async () => {
  const about = await theirs();
  const before = await heldByOther(about);
  const none = nobodys();
  for (const [what, questionOf] of Object.entries(QUESTIONS))
    assert.deepEqual(await answered(questionOf(about), about), await answered(questionOf(none), none), what);
  assert.deepEqual(await heldByOther(about), before, 'the other lost something');
  assert.deepEqual(await others.get(about.key).then((found) => found?.bytes()), about.file);
  const renewed = await call(other, 'POST', `${blatam.edge}/v1/tensors:renew`, {
    body: Buffer.from(JSON.stringify({ key: about.claimed, claim: about.claim })),
    headers: JSON_TYPE,
  });
  assert.equal(renewed.status, 200, "the claim is not the other's any more");
  assert.deepEqual(await others.kv.unpin({ pin: about.pin }), { pins: 0 });
});

test('lists, policy, blocks and events of one tell nothing of another', async () => {
  const about = await theirs();
  const { blocks } = await others.kv.lookup({ model: 'm', tokens: about.tokens });
  assert.deepEqual([(await own.list()).entries, (await own.cache.policy()).tensors.parts], [[], []]);
  const ending = new AbortController();
  const events = own.kv.events({ after: 0, signal: ending.signal });
  const same = await own.kv.store(sequence(about.tokens));
  assert.deepEqual([same.storedTokens, same.deduplicatedTokens], [192, 0]);
  const [first, second, third] = same.blocks.map(({ hash }) => hash);
  for (const { hash } of blocks)
    assert.ok(![first, second, third].includes(hash), 'names of blocks tell of their tokens');
  const told = await events.next();
  assert.deepEqual(told.value?.type === 'BlockStored' && told.value.hashes, [first, second, third]);
  await others.kv.clear({ model: 'm', prefix: about.tokens.subarray(0, 64) });
  await own.kv.clear({});
  assert.equal((await events.next()).value?.type, 'AllBlocksCleared', 'it is told what the other clears');
  ending.abort();
});

test('who floods adapters stays within its quota, and pushes out nothing of what others have', async () => {
  const kept = Array.from({ length: 24 }, (_, i) => ({ key: `kept/${i}`, file: tensorFile(MiB) }));
  for (const { key, file } of kept) await others.put(key, file, { durability: 'none' });
  for (let i = 0; i < 160; i++)
    await own.put(`flood/${i}`, tensorFile(MiB + i * 1000), { durability: 'none', priority: 100 });
  for (const { key, file } of kept) assert.deepEqual(await others.get(key).then((found) => found?.bytes()), file, key);
  let bytes = 0;
  for await (const entry of own.listAll()) if (entry.tier === 'hot') bytes += entry.bytes;
  assert.ok(bytes > 40 * MiB && bytes <= 0.6 * 128 * MiB, `${bytes} bytes are the flood's`);
  for await (const { key } of own.listAll()) await own.delete(key);
});

/** How much more often than not the first of a pair is the larger; from -1/2 to 1/2. */
const leaning = (pairs: readonly (readonly [number, number])[]): number =>
  pairs.reduce((sum, [a, b]) => sum + (a > b ? 1 : a === b ? 0.5 : 0), 0) / pairs.length - 0.5;

test('leaning() tells a hidden difference from noise', () => {
  const noise = () => 5 + random.next() * random.next() * 20;
  const pairs = (hidden: number) => Array.from({ length: PAIRS }, () => [noise() + hidden, noise()] as const);
  assert.ok(Math.abs(leaning(pairs(0))) < LEANING_MAX / 2);
  assert.ok(leaning(pairs(8)) > LEANING_MAX);
});

/** Those that others could be told from by the time they take. */
const TIMED = ['GET a tensor', 'PUT what the other has under a name of its own', 'lookup', 'load', 'claim a key'];

for (const what of TIMED)
  test(`the time of an answer does not tell whether another has it: ${what}`, async (t) => {
    const abouts = [await theirs(), await theirs(), await theirs()] as const;
    const nones = [nobodys(), nobodys(), nobodys()] as const;
    const questionOf = QUESTIONS[what];
    assert.ok(questionOf);
    const timed = async (about: Subject): Promise<number> => {
      const begun = performance.now();
      await (await ask(questionOf(about))).arrayBuffer();
      const took = performance.now() - begun;
      if (what.startsWith('PUT')) await own.delete(`spy/${about.key}`);
      return took;
    };
    const pairs: [number, number][] = [];
    for (let i = 0; i < PAIRS; i++) {
      const [about, none] = [random.pick([...abouts]), random.pick([...nones])];
      const isFirst = random.below(2) > 0;
      const early = await timed(isFirst ? about : none);
      const late = await timed(isFirst ? none : about);
      pairs.push(isFirst ? [early, late] : [late, early]);
    }
    t.diagnostic(`leaning ${leaning(pairs).toFixed(3)} of ${LEANING_MAX.toFixed(3)}`);
    assert.ok(Math.abs(leaning(pairs)) < LEANING_MAX, `another's is told by its time: leaning ${leaning(pairs)}`);
  });

test('one whose batches come in slowly keeps the other from none', async (t) => {
  const url = `${blatam.edge}/v1/tensors:batch`;
  const type = { 'content-type': 'application/vnd.blatam.batch' };
  const frame = new Uint8Array(9 * MiB);
  const fields = await Promise.all(Array.from({ length: 8 }, () => signed(spy, 'POST', url, { body: frame })));
  const slow = fields.map((each) => {
    const sent = request(url, { method: 'POST', headers: { ...each, ...type, 'content-length': frame.length } });
    sent.on('error', () => {});
    sent.write(frame.subarray(0, frame.length - 1)); // all but the last byte
    return sent;
  });
  t.after(() => {
    for (const each of slow) each.destroy();
  });
  const file = tensorFile(10);
  const isFull = async () =>
    own.putMany([{ key: 'b', file }]).then(
      () => false,
      (error: unknown) => error instanceof BlatamError && error.code === 'pieces_exhausted',
    );
  for (let tries = 0; !(await isFull()); tries++) assert.ok(tries < 1000, 'all places for the one are taken');
  const [stored] = await others.putMany([{ key: 'b', file, durability: 'none' }]);
  assert.equal(stored?.stored?.created, true);
  assert.deepEqual((await others.getMany(['b']))[0]?.file, file);
  assert.equal((await others.getOrCompute('c', async () => file)).length, file.length);
});
