// The KV of token sequences over HTTP, through edge and core, as a caller sees it: store, load and attention, and what is
// said where something is wrong; the same by the client and by the command line.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { joinParts, parseTensors, type TensorData, tensorBytes, tensorParts } from '../../core/contract/tensors.ts';
import { main } from '../../edge/cli.ts';
import { BlatamError, createClient } from '../../edge/client.ts';
import { adminKey, type Blatam, call, codeOf, type KeyFile, startBlatam } from '../support/blatam.ts';
import { commandIo } from '../support/command-io.ts';
import { folder } from '../support/folders.ts';
import { seeded } from '../support/seeded.ts';

const LAYERS = 2;
const HEADS = 2;
const DIM = 64;
const N = 200;
const random = seeded();
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);
const tokens = Int32Array.from({ length: N }, () => random.below(32_000));
const halves = (n: number) => bytesOf(Float16Array.from({ length: n }, () => random.next() * 4 - 2));
const k = halves(LAYERS * HEADS * N * DIM);
const v = halves(LAYERS * HEADS * N * DIM);

let blatam: Blatam;
let key: KeyFile;
before(async () => {
  blatam = await startBlatam();
  key = adminKey(blatam.dataDir);
});
after(() => blatam.stop());

const post = (path: string, body: Uint8Array, type = 'application/vnd.safetensors') =>
  call(key, 'POST', `${blatam.edge}/v1/kv/${path}`, { body, headers: { 'content-type': type } });
const json = (path: string, body: unknown) =>
  post(path, new TextEncoder().encode(JSON.stringify(body)), 'application/json');
const safetensors = (tensors: TensorData[]) => joinParts(tensorParts(tensors));
const shape = [LAYERS, HEADS, N, DIM];
const storeFile = () =>
  safetensors([
    { name: 'tokens', dtype: 'I32', shape: [N], data: bytesOf(tokens) },
    { name: 'k', dtype: 'F16', shape, data: k },
    { name: 'v', dtype: 'F16', shape, data: v },
  ]);

test('store answers what is held, a second store that it was', async () => {
  const first = await post('store?model=m&codecK=tq4&codecV=tq4', storeFile());
  assert.equal(first.status, 200);
  const told = (await first.json()) as { storedTokens: number; deduplicatedTokens: number; blocks: object[] };
  assert.deepEqual([told.storedTokens, told.deduplicatedTokens, told.blocks.length], [192, 0, 3]);
  assert.deepEqual(Object.keys(told.blocks[0] ?? {}).sort(), [
    ...['adapter', 'codecK', 'codecV', 'hash', 'storedBytes', 'tier', 'tokens'],
  ]);
  const second = (await (await post('store?model=m', storeFile())).json()) as typeof told;
  assert.deepEqual([second.storedTokens, second.deduplicatedTokens], [192, 192]);
});

test('load gives the held beginning back, in the dtype that is asked for', async () => {
  const answer = await json('load', { model: 'm', tokens: [...tokens, 5], dtype: 'F16' });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get('content-type'), 'application/vnd.safetensors');
  const file = new Uint8Array(await answer.arrayBuffer());
  assert.equal(String(file.length), answer.headers.get('content-length'));
  const layout = parseTensors(file);
  assert.equal(layout.metadata.matched_tokens, '192');
  assert.deepEqual(
    layout.tensors.map((tensor) => [tensor.name, tensor.dtype, tensor.shape.join()]),
    [
      ['k', 'F16', `${LAYERS},${HEADS},192,${DIM}`],
      ['v', 'F16', `${LAYERS},${HEADS},192,${DIM}`],
    ],
  );
  // both ends are exact: of the first block the first token of layer 0 and head 0
  const [first] = layout.tensors;
  assert.ok(first);
  assert.deepEqual(tensorBytes(file, layout, first).subarray(0, DIM * 2), k.subarray(0, DIM * 2));
});

test('attention answers outputs and log-sum-exps, and 404 with what is held where it is too little', async () => {
  const question = (n: number) =>
    safetensors([
      { name: 'tokens', dtype: 'I32', shape: [n], data: bytesOf(tokens.slice(0, n)) },
      { name: 'q', dtype: 'F32', shape: [4, 1, DIM], data: bytesOf(new Float32Array(4 * DIM).fill(0.1)) },
    ]);
  const answer = await post('attention?model=m&layer=1', question(150));
  assert.equal(answer.status, 200);
  const file = new Uint8Array(await answer.arrayBuffer());
  const found = parseTensors(file).tensors.map((tensor) => [tensor.name, tensor.shape.join()]);
  assert.deepEqual(found, [
    ['lse', '4,1'],
    ['o', `4,1,${DIM}`],
  ]);
  const missing = await post('attention?model=m&layer=1', question(N));
  assert.equal(missing.status, 404);
  const problem = (await missing.json()) as { code: string; matchedTokens: number };
  assert.deepEqual([problem.code, problem.matchedTokens], ['kv_unknown', 192]);
  const layerless = await post('attention?model=m&layer=99', question(150));
  assert.equal(layerless.status, 404);
  assert.match(await layerless.text(), /of these 150 tokens 0 are held with a layer 99/i);
});

test('what is wrong is said, with what would be right', async () => {
  const cut = (tensors: TensorData[]) => post('store?model=m', safetensors(tensors));
  const ids: TensorData = { name: 'tokens', dtype: 'I32', shape: [N], data: bytesOf(tokens) };
  for (const [answer, code, words] of [
    [await cut([ids]), 'kv_malformed', /lacks k and v/],
    [await cut([ids, { name: 'k', dtype: 'F16', shape, data: k }]), 'kv_malformed', /lacks v/],
    [await post('store', storeFile()), 'query_malformed', /model/],
    [await post('store?model=m&codecK=mp3', storeFile()), 'codec_unknown', /tcq4/],
    [await post('store?model=m&rope=-1', storeFile()), 'query_malformed', /"path":"rope"/],
    [await post('store?model=m&ropeScale=2', storeFile()), 'query_malformed', /"path":"ropeScale"/],
    [await post('store?model=m&rope=10000&ropeDims=128', storeFile()), 'kv_malformed', /ropeDims is 128/],
    [await post('attention?model=m&layer=0', storeFile()), 'kv_malformed', /lacks q/],
    [await json('load', { model: 'm', tokens: [1.5] }), 'body_malformed', /tokens\.0/],
    [await json('load', { model: 'm', tokens: [] }), 'body_malformed', /tokens/],
    [await json('load', { model: 'none', tokens: [1] }), 'kv_unknown', /held/],
    [await post('load', storeFile()), 'media_type_unsupported', /json/],
  ] as const) {
    const text = await answer.clone().text();
    assert.equal(await codeOf(answer), code, text);
    assert.match(text, words);
  }
  const odd: TensorData[] = [
    ids,
    ...['k', 'v'].map((name): TensorData => ({ name, dtype: 'U8', shape: [4], data: new Uint8Array(4) })),
  ];
  assert.equal(await codeOf(await cut(odd)), 'kv_malformed');
});

test('the client stores, loads and attends with typed arrays, bit for bit where it is raw', async () => {
  const { kv } = createClient({ url: blatam.edge, ...key });
  const of = (bytes: Uint8Array) => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const layout = { layers: LAYERS, kvHeads: HEADS, dim: DIM };
  const stored = await kv.store({ model: 'typed', shape: layout, dtype: 'F16', tokens, k: of(k), v: of(v) });
  assert.deepEqual([stored.storedTokens, stored.deduplicatedTokens, stored.blocks[2]?.codecK], [192, 0, 'f16']);

  const back = await kv.load({ model: 'typed', tokens });
  assert.ok(back);
  assert.deepEqual([back.matchedTokens, back.dtype, back.shape], [192, 'F16', layout]);
  assert.deepEqual(back.k, heldRows(of(k)));
  assert.deepEqual(back.v, heldRows(of(v)));
  assert.equal((await kv.load({ model: 'typed', tokens: tokens.subarray(0, 100) }))?.matchedTokens, 100);
  assert.equal(await kv.load({ model: 'typed', salt: 'other', tokens }), undefined);

  const question = { model: 'typed', layer: 0, q: new Float32Array(4 * 3 * DIM).fill(0.1), heads: 4, dim: DIM };
  const { o, lse } = await kv.attention({ ...question, tokens: tokens.subarray(0, 192), window: 1 });
  assert.equal(lse.length, 12);
  // who sees one token alone answers its V: of the last token, layer 0 and head 0
  const alone = Float32Array.from(new Float16Array(v.slice(191 * DIM * 2, 192 * DIM * 2).buffer));
  for (const [at, value] of alone.entries()) assert.ok(Math.abs((o[2 * DIM + at] ?? 0) - value) < 1e-3);
  await assert.rejects(
    kv.attention({ ...question, tokens }),
    (thrown) => thrown instanceof BlatamError && thrown.code === 'kv_unknown' && thrown.document.matchedTokens === 192,
  );
});

test('K stored before its rotary embedding loads as it was, and embedded where that is asked for', async () => {
  const { kv } = createClient({ url: blatam.edge, ...key });
  const n = 64;
  const numbers = Float32Array.from({ length: n * DIM }, () => random.next() - 0.5);
  const one = { model: 'rope', shape: { layers: 1, kvHeads: 1, dim: DIM }, dtype: 'F32' } as const;
  const ids = tokens.slice(0, n);
  await kv.store({ ...one, tokens: ids, k: numbers, v: numbers, rope: { theta: 10_000, pairs: 'neighbours' } });
  assert.deepEqual((await kv.load({ model: 'rope', tokens: ids, dtype: 'F32' }))?.k, numbers);
  const embedded = await kv.load({ model: 'rope', tokens: ids, dtype: 'F32', rope: true });
  assert.deepEqual(embedded?.v, numbers);
  // the first pair of the last token turns by its position
  const [x = 0, y = 0] = numbers.subarray(63 * DIM);
  for (const [at, wanted] of [x * Math.cos(63) - y * Math.sin(63), x * Math.sin(63) + y * Math.cos(63)].entries())
    assert.ok(Math.abs((embedded?.k[63 * DIM + at] ?? 0) - wanted) < 1e-6);
});

test('the client stores the end of a sequence whose beginning is held', async () => {
  const { kv } = createClient({ url: blatam.edge, ...key });
  const from = (numbers: Float32Array, first: number, end: number) =>
    Float32Array.from({ length: (end - first) * DIM }, (_, at) => numbers[first * DIM + at] ?? 0);
  const numbers = Float32Array.from({ length: N * DIM }, () => random.next() - 0.5);
  const one = { model: 'ends', shape: { layers: 1, kvHeads: 1, dim: DIM }, dtype: 'F32' } as const;
  const end = { ...one, tokens, k: from(numbers, 64, N), v: from(numbers, 64, N) };
  await assert.rejects(kv.store(end), { code: 'kv_unknown', message: /Store those first/ });
  const begin = from(numbers, 0, 64);
  await kv.store({ ...one, tokens: tokens.slice(0, 64), k: begin, v: begin });
  const { storedTokens, deduplicatedTokens } = await kv.store(end);
  assert.deepEqual([storedTokens, deduplicatedTokens], [192, 64]);
  assert.deepEqual((await kv.load({ model: 'ends', tokens, dtype: 'F32' }))?.k, from(numbers, 0, 192));
});

test('the command line stores a file, and what it loads back is what the file has', async (t) => {
  const path = (name: string) => join(directory, name);
  const directory = folder(t);
  writeFileSync(path('kv'), storeFile());
  const run = async (...args: string[]) => {
    const io = commandIo(blatam);
    assert.equal(await main(args, io), 0, io.err());
    return io.out();
  };
  const stored = await run('kv', 'store', path('kv'), '--model', 'line', '--codec-k', 'tq4', '--codec-v', 'tcq3');
  assert.match(
    stored,
    /^stored 192 of 200 tokens for line: 192\.0 KiB of K and V, kept as 192\.0 KiB \(100\.0 %\) in 3 blocks \(3 f16\), the last 8 fill no block\n$/,
  );
  assert.match(await run('kv', 'store', path('kv'), '--model', 'line'), /, 192 of them held before, /);
  const loaded = await run('kv', 'load', path('kv'), '--model', 'line', '--out', path('back'));
  assert.match(loaded, /^loaded 192 of 200 tokens for line: 192\.\d KiB of F16 into \S+back\n$/);
  const file = new Uint8Array(readFileSync(path('back')));
  const layout = parseTensors(file);
  const [first] = layout.tensors;
  assert.ok(first);
  assert.deepEqual(tensorBytes(file, layout, first), bytesOf(heldRows(new Uint16Array(k.buffer))));

  await run('kv', 'store', path('kv'), '--model', 'roped', '--rope', '10000', '--rope-pairs', 'neighbours');
  const said = async (name: string, ...more: string[]) => {
    await run('kv', 'load', path('kv'), '--model', 'roped', '--out', path(name), ...more);
    return parseTensors(new Uint8Array(readFileSync(path(name)))).metadata.rope;
  };
  assert.deepEqual([await said('before'), await said('after', '--with-rope')], ['before', 'applied']);
});

/** Of each layer and head, what fills blocks. */
function heldRows(numbers: Uint16Array): Uint16Array {
  const row = N * DIM;
  return Uint16Array.from({ length: LAYERS * HEADS * 192 * DIM }, (_, at) => {
    const [which, within] = [Math.floor(at / (192 * DIM)), at % (192 * DIM)];
    return numbers[which * row + within] ?? 0;
  });
}
