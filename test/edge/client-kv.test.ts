// The client's calls for the KV of token sequences against a loopback server: what they send, what they make of an answer, and
// what of one that is refused, cut or another's. Against the real server: test/walk/kv.test.ts.

import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { after, afterEach, before, describe, test } from 'node:test';
import { problem } from '../../core/contract/problems.ts';
import { joinParts, parseTensors, type TensorData, tensorBytes, tensorParts } from '../../core/contract/tensors.ts';
import { BlatamError, createClient, type KvSequence, TransferError } from '../../edge/client.ts';
import { openTensorServer, refuse, sendJson, type TensorServer } from './tensor-server.ts';

let server: TensorServer;
before(async () => {
  server = await openTensorServer();
});
after(() => server.close());
afterEach(() => {
  server.override = undefined;
  server.requests.length = 0;
});

const kv = () => createClient({ url: server.url, keyid: server.keyid, secret: server.secret }).kv;
const shape = { layers: 2, kvHeads: 1, dim: 64 };
const tokens = Int32Array.of(5, 6, 7);
const floats = (from: number) => Float32Array.from({ length: 2 * 3 * 64 }, (_, at) => from + at / 8);
const sequence: KvSequence<'F32'> = { model: 'm 1', shape, dtype: 'F32', tokens, k: floats(0), v: floats(-9) };
const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView) => new Uint8Array(buffer, byteOffset, byteLength);

/** Answers every request with these bytes; the bodies that came. */
function answering(bytes: Uint8Array, headers: Record<string, string> = { 'content-length': String(bytes.length) }) {
  const bodies: Uint8Array[] = [];
  server.override = async (request, answer) => {
    bodies.push(await bodyOf(request));
    answer.writeHead(200, { 'content-type': 'application/vnd.safetensors', ...headers }).end(bytes);
    return true;
  };
  return bodies;
}

const bodyOf = async (request: IncomingMessage) => new Uint8Array(Buffer.concat(await request.toArray()));
const file = (tensors: TensorData[], metadata?: Record<string, string>) => joinParts(tensorParts(tensors, metadata));
const loaded = file(
  ['k', 'v'].map((name, at) => ({
    ...{ name, dtype: 'F16', shape: [2, 1, 2, 64] },
    data: bytesOf(Uint16Array.from({ length: 256 }, (_, i) => at * 1000 + i)),
  })),
  { matched_tokens: '2' },
);

const fails = (fault: TransferError['fault'], message: RegExp) => (error: unknown) => {
  assert.ok(error instanceof TransferError, String(error));
  assert.equal(error.fault, fault, error.message);
  assert.match(error.message, message);
  return true;
};

describe('store()', () => {
  test('sends tokens first, then K and V, and only the options given', async () => {
    const answer = { storedTokens: 0, deduplicatedTokens: 0, blocks: [] };
    const bodies: Uint8Array[] = [];
    server.override = async (request, response) => {
      bodies.push(await bodyOf(request));
      sendJson(response, 200, answer);
      return true;
    };
    assert.deepEqual(await kv().store(sequence), answer);
    await kv().store({ ...sequence, salt: 's', codecK: 'tq4', codecV: 'raw' });
    await kv().store({ ...sequence, rope: { theta: 5e5 } });
    await kv().store({ ...sequence, rope: { theta: 1e4, scale: 8, pairs: 'neighbours', dims: 32 } });
    assert.deepEqual(
      server.requests.map(({ method, url }) => `${method} ${url}`),
      [
        'POST /v1/kv/store?model=m+1',
        'POST /v1/kv/store?model=m+1&salt=s&codecK=tq4&codecV=raw',
        'POST /v1/kv/store?model=m+1&rope=500000',
        'POST /v1/kv/store?model=m+1&rope=10000&ropeScale=8&ropePairs=neighbours&ropeDims=32',
      ],
    );
    const [sent = new Uint8Array()] = bodies;
    const layout = parseTensors(sent);
    const found = layout.tensors.map((info) => [info.name, info.dtype, info.shape.join(), info.begin]);
    assert.deepEqual(found, [
      ['tokens', 'I32', '3', 0],
      ['k', 'F32', '2,1,3,64', 12],
      ['v', 'F32', '2,1,3,64', 12 + 1536],
    ]);
    const [, , v] = layout.tensors;
    assert.ok(v);
    assert.deepEqual(new Uint8Array(tensorBytes(sent, layout, v)), bytesOf(sequence.v));
  });

  for (const [name, wrong, message] of [
    ['K that is no whole number of tokens', { k: new Float32Array(100) }, /k has 100 numbers; they must be layers × /],
    ['V of another length', { v: new Float32Array(128) }, /v has 512 bytes; as F32 \[2,1,3,64\] it must have 1536/],
    ['halves as whole numbers', { dtype: 'F16' as 'F32' }, /k has 1536 bytes; as F16 \[2,1,3,64\] it must have 768/],
    ['a head that none has', { shape: { layers: 1, kvHeads: 1, dim: 48 } }, /head_dim is 48; it must be one of 64,/],
    ['fewer tokens than K has', { tokens: Int32Array.of(1) }, /k holds 3 tokens of a sequence of 1/],
  ] as const)
    test(`refuses ${name} before anything is sent`, async () => {
      await assert.rejects(kv().store({ ...sequence, ...wrong }), { message });
      assert.equal(server.requests.length, 0);
    });
});

describe('load()', () => {
  test('asks by tokens, and gives K and V as views into one array', async () => {
    const bodies = answering(loaded);
    const found = await kv().load({ model: 'm', salt: 's', tokens });
    assert.deepEqual(JSON.parse(new TextDecoder().decode(bodies[0])), {
      ...{ model: 'm', salt: 's', tokens: [5, 6, 7], dtype: 'F16' },
    });
    assert.ok(found);
    await kv().load({ model: 'm', tokens, rope: true });
    assert.equal(JSON.parse(new TextDecoder().decode(bodies[1])).rope, true);
    assert.deepEqual([found.matchedTokens, found.dtype, found.shape], [2, 'F16', shape]);
    assert.deepEqual([found.k[255], found.v[0], found.v.length], [255, 1000, 256]);
    assert.equal(found.k.buffer, found.v.buffer);
  });

  test('reads tensors that are not aligned', async () => {
    const json = `{"k":{"dtype":"F32","shape":[1,1,1,64],"data_offsets":[0,256]},"v":{"dtype":"F32","shape":[1,1,1,64],"data_offsets":[256,512]}}  `;
    const head = new Uint8Array(8);
    new DataView(head.buffer).setBigUint64(0, BigInt(json.length), true);
    assert.notEqual(json.length % 4, 0);
    const numbers = Float32Array.from({ length: 128 }, (_, at) => at);
    answering(joinParts([head, new TextEncoder().encode(json), bytesOf(numbers)]));
    const found = await kv().load({ model: 'm', tokens, dtype: 'F32' });
    assert.deepEqual(found?.v, numbers.slice(64));
  });

  test('is undefined where nothing is held, and throws where there is no such route', async () => {
    for (const [code, expected] of [
      ['kv_unknown', undefined],
      ['route_unknown', 'route_unknown'],
    ] as const) {
      server.override = (_request, answer) => {
        refuse(answer, problem(code, 'It is not here.'));
        return true;
      };
      const outcome = await kv()
        .load({ model: 'm', tokens })
        .catch((thrown: BlatamError) => thrown.code);
      assert.equal(outcome, expected);
    }
  });

  test('throws `cut` where the answer is shorter or longer than its header says', async () => {
    for (const wrong of [loaded.subarray(0, 4), loaded.subarray(0, 60), loaded.subarray(0, -1)]) {
      answering(wrong, {});
      await assert.rejects(kv().load({ model: 'm', tokens }), fails('cut', /ended after \d+ of \d+ bytes/));
    }
    answering(joinParts([loaded, Uint8Array.of(0)]), {});
    await assert.rejects(kv().load({ model: 'm', tokens }), fails('cut', /ended after/));
  });

  test('throws `unreadable` where the answer is none of the contract', async () => {
    answering(new TextEncoder().encode('not tensors at all, but words'));
    await assert.rejects(kv().load({ model: 'm', tokens }), fails('unreadable', /is no safetensors file/));
    answering(file([{ name: 'x', dtype: 'U8', shape: [1], data: Uint8Array.of(1) }]));
    await assert.rejects(kv().load({ model: 'm', tokens }), fails('unreadable', /holds other tensors/));
    answering(loaded);
    await assert.rejects(kv().load({ model: 'm', tokens, dtype: 'F32' }), fails('unreadable', /holds other tensors/));
  });

  test('refuses what no server takes before anything is sent', async () => {
    for (const [wrong, message] of [
      [{ model: '' }, /The model to load: /],
      [{ tokens: new Int32Array() }, /The tokens to load: /],
      [{ dtype: 'I8' as 'F16' }, /The dtype to load: /],
    ] as const)
      await assert.rejects(kv().load({ model: 'm', tokens, ...wrong }), { name: 'RangeError', message });
    assert.equal(server.requests.length, 0);
  });

  test('loadBody() tells what comes and streams it', async () => {
    answering(loaded);
    const fetched = await kv().loadBody({ model: 'm', tokens });
    assert.ok(fetched);
    const { stream, ...told } = fetched;
    assert.deepEqual(told, { matchedTokens: 2, shape, dtype: 'F16', length: loaded.length });
    const parts: Uint8Array[] = [];
    for await (const part of stream) parts.push(part);
    assert.deepEqual(joinParts(parts), loaded);
  });
});

describe('attention()', () => {
  const question = { model: 'm', layer: 1, tokens, q: new Float32Array(4 * 2 * 64).fill(0.5), heads: 4, dim: 64 };
  const told = file([
    { name: 'o', dtype: 'F32', shape: [4, 2, 64], data: bytesOf(new Float32Array(512).fill(3)) },
    { name: 'lse', dtype: 'F32', shape: [4, 2], data: bytesOf(new Float32Array(8).fill(2)) },
  ]);

  test('sends tokens and queries, and gives outputs and log-sum-exps', async () => {
    const [bodies, wanted] = [answering(told), { o: new Float32Array(512).fill(3), lse: new Float32Array(8).fill(2) }];
    assert.deepEqual(await kv().attention(question), wanted);
    await kv().attention({ ...question, scale: 0.1, causal: false, window: 9 });
    assert.deepEqual(
      server.requests.map(({ url }) => url),
      ['/v1/kv/attention?model=m&layer=1', '/v1/kv/attention?model=m&layer=1&scale=0.1&causal=false&window=9'],
    );
    const sent = parseTensors(bodies[0] ?? new Uint8Array()).tensors.map(({ name, shape }) => `${name} ${shape}`);
    assert.deepEqual(sent, ['tokens 3', 'q 4,2,64']);
  });

  test('throws kv_unknown with what is held', async () => {
    server.override = (_request, answer) => {
      refuse(answer, problem('kv_unknown', 'Of these 3 tokens 0 are held.', { matchedTokens: 0 }));
      return true;
    };
    const error = await kv()
      .attention(question)
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof BlatamError, String(error));
    assert.deepEqual([error.status, error.code, error.document.matchedTokens], [404, 'kv_unknown', 0]);
  });

  test('refuses queries of no whole number, and more than tokens, before anything is sent', async () => {
    const odd = { ...question, q: new Float32Array(100) };
    await assert.rejects(kv().attention(odd), { name: 'RangeError', message: /q has 100 numbers; they must be heads/ });
    const many = { ...question, q: new Float32Array(4 * 4 * 64) };
    await assert.rejects(kv().attention(many), { code: 'kv_malformed', message: /q has 4 queries/ });
    assert.equal(server.requests.length, 0);
  });

  test('throws `unreadable` where the answer is of another question', async () => {
    answering(told);
    const other = { ...question, q: new Float32Array(4 * 64) };
    await assert.rejects(kv().attention(other), fails('unreadable', /holds other tensors/));
  });
});
