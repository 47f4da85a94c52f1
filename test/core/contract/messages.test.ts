// What callers send, at the edges: keys, queries and codecs, each fault a problem of its own.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { z } from 'zod';
import { kvLoadSchema } from '../../../core/contract/kv.ts';
import {
  keySchema,
  listQuerySchema,
  parseBody,
  parseCodec,
  parseKey,
  parseQuery,
  putQuerySchema,
  tensorEntrySchema,
} from '../../../core/contract/messages.ts';
import { Problem } from '../../../core/contract/problems.ts';

const refuses = (code: string, work: () => unknown, detail?: RegExp): Problem => {
  try {
    work();
  } catch (thrown) {
    assert.ok(thrown instanceof Problem, String(thrown));
    assert.equal(thrown.code, code);
    if (detail) assert.match(thrown.message, detail);
    return thrown;
  }
  assert.fail(`${code} was not thrown`);
};

test('parseKey() takes what it says, up to 512 characters', () => {
  for (const key of ['a', 'A-Z_0.9:x', 'a/b/c', '.a', 'a.', '...a/b', '-', ':', 'k'.repeat(512)])
    assert.equal(parseKey(key), key);
});

test('parseKey() decodes percent-encoding once', () => {
  assert.equal(parseKey('a%2Fb%3Ac'), 'a/b:c');
  assert.equal(parseKey('%61'), 'a');
  refuses('key_malformed', () => parseKey('a%252Fb'), /only/);
});

test('parseKey() refuses everything else', () => {
  const malformed = ['', '/', '/a', 'a/', 'a//b', '.', '..', 'a/./b', 'a/../b', '%2e%2e/a', 'a/...', 'a/....'];
  const characters = [
    'a b',
    'a%20b',
    'a+b',
    'ä',
    '%C3%A4',
    'a\\b',
    'a%00b',
    'a\n',
    'a%0A',
    'a?b',
    'a#b',
    'a~',
    '💥',
    '*',
  ];
  for (const key of [...malformed, ...characters, 'k'.repeat(513)]) refuses('key_malformed', () => parseKey(key));
});

test('parseKey() refuses broken percent-encoding', () => {
  for (const key of ['%', 'a%2', '%zz', '%C3', '%ED%A0%80'])
    refuses('key_malformed', () => parseKey(key), /percent-encoding/);
});

test('parseKey() and keySchema agree with the rule, character by character', () => {
  for (let code = 0; code < 0x180; code++) {
    const key = `a${String.fromCharCode(code)}b`;
    assert.equal(keySchema.safeParse(key).success, /^a[A-Za-z0-9._:/-]b$/.test(key), `U+${code.toString(16)}`);
  }
});

const query = (text: string) => new URLSearchParams(text);

test('parseQuery() gives the defaults of a PUT', () => {
  assert.deepEqual(parseQuery(putQuerySchema, query('')), { codec: 'lossless', priority: 50, durability: 'through' });
});

test('parseQuery() takes every option of a PUT at its bounds', () => {
  assert.deepEqual(parseQuery(putQuerySchema, query('codec=raw&ttl=1&priority=0&durability=none')), {
    codec: 'raw',
    ttl: 1,
    priority: 0,
    durability: 'none',
  });
  assert.deepEqual(parseQuery(putQuerySchema, query('ttl=315360000&priority=100&durability=back')), {
    codec: 'lossless',
    ttl: 315_360_000,
    priority: 100,
    durability: 'back',
  });
});

test('parseQuery() refuses what is no whole number in bounds, and names it', () => {
  for (const value of ['', '0', '-1', '1.5', '1e3', '0x10', ' 5', '5 ', '+5', 'NaN', 'Infinity', '315360001', 'true'])
    refuses('query_malformed', () => parseQuery(putQuerySchema, new URLSearchParams({ ttl: value })), /ttl/);
  for (const value of ['', '-1', '101', 'high'])
    refuses('query_malformed', () => parseQuery(putQuerySchema, new URLSearchParams({ priority: value })), /priority/);
  for (const value of ['', '0', '1001', '1.0'])
    refuses('query_malformed', () => parseQuery(listQuerySchema, new URLSearchParams({ limit: value })), /limit/);
});

test('parseQuery() refuses unknown names, unknown choices and repetitions', () => {
  refuses('query_malformed', () => parseQuery(putQuerySchema, query('durability=maybe')), /durability/);
  refuses('query_malformed', () => parseQuery(putQuerySchema, query('TTL=5')), /TTL/);
  for (const name of ['__proto__', 'constructor', 'toString', ''])
    refuses('query_malformed', () => parseQuery(putQuerySchema, new URLSearchParams([[name, '1']])));
  refuses('query_malformed', () => parseQuery(putQuerySchema, query('ttl=5&ttl=5')), /ttl twice/);
  refuses('query_malformed', () => parseQuery(putQuerySchema, query('x=1&x=2')), /x twice/);
});

test('parseQuery() lists every fault with its name', () => {
  const { extra } = refuses('query_malformed', () => parseQuery(putQuerySchema, query('ttl=0&priority=101')));
  assert.deepEqual((extra.faults as { path: string }[]).map(({ path }) => path).sort(), ['priority', 'ttl']);
});

test('parseBody() tells no more faults than somebody reads, of a million wrong tokens one', () => {
  const body = (value: unknown) => new TextEncoder().encode(JSON.stringify(value));
  const { extra } = refuses(
    'body_malformed',
    () => parseBody(z.array(z.number()), body(Array(1000).fill(''))),
    /^.*0: /,
  );
  assert.equal((extra.faults as unknown[]).length, 16);
  for (const odd of ['1', 1.5, 2 ** 31, -(2 ** 31) - 1, null]) {
    const tokens = Array(1000).fill(7).concat(odd, odd);
    const fault = refuses('body_malformed', () => parseBody(kvLoadSchema, body({ model: 'm', tokens })));
    assert.deepEqual(fault.extra.faults, [{ path: 'tokens.1000', message: 'must be a whole number of 32 bits' }]);
  }
  const tokens = [0, -0, 2 ** 31 - 1, -(2 ** 31)];
  assert.deepEqual(parseBody(kvLoadSchema, body({ model: 'm', tokens })).tokens, [0, 0, 2 ** 31 - 1, -(2 ** 31)]);
  for (const count of [0, 2 ** 20 + 1])
    refuses(
      'body_malformed',
      () => parseBody(kvLoadSchema, body({ model: 'm', tokens: Array(count).fill('') })),
      /tokens/,
    );
});

test('parseQuery() of a list has its bounds', () => {
  assert.deepEqual(parseQuery(listQuerySchema, query('')), { prefix: '', cursor: '', limit: 100 });
  const most = { prefix: 'p'.repeat(512), cursor: 'c'.repeat(512), limit: '1000' };
  assert.equal(parseQuery(listQuerySchema, new URLSearchParams(most)).limit, 1000);
  for (const name of ['prefix', 'cursor'])
    refuses('query_malformed', () => parseQuery(listQuerySchema, new URLSearchParams({ [name]: 'x'.repeat(513) })));
});

test('parseCodec() knows lossless and raw', () => {
  parseCodec('lossless');
  parseCodec('raw');
  for (const codec of ['', 'RAW', 'zstd', 'toString'])
    assert.ok(refuses('codec_unknown', () => parseCodec(codec), /lossless, raw/).status === 422);
  assert.ok(refuses('codec_unknown', () => parseCodec('x'.repeat(5000))).message.length < 200);
});

test('tensorEntrySchema takes what the cache answers', () => {
  const entry = {
    key: 'k',
    digest: 'd',
    codec: 'raw',
    dtype: null,
    shape: null,
    tensors: 2,
    bytes: 10,
    storedBytes: 10,
    tier: 'cold',
    adapter: null,
    priority: 50,
    expiresAt: null,
  };
  assert.deepEqual(tensorEntrySchema.parse(entry), entry);
  assert.equal(tensorEntrySchema.safeParse({ ...entry, tier: 'warm' }).success, false);
});
