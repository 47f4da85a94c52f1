// The access log: what a line has and has not, and that nobody waits for a slow reader.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AccessLine, createAccessLog, lineOf } from '../../edge/access-log.ts';
import { routeClass } from '../../edge/route-class.ts';
import { seeded } from '../support/seeded.ts';

const { seed } = seeded();
const NOW = Date.UTC(2026, 0, 2);
const LINE_CHARS_MAX = 8192;

const line: AccessLine = {
  ...{ method: 'GET', url: 'http://edge/v1/tensors/a', status: 200, ms: 1.23456, bytes: 10 },
  ...{ keyid: 'k', tenant: 't', address: '::1', requestId: 'r', traceId: 'c' },
};

test('lineOf: one line of JSON with who, what and how it ended', () => {
  assert.deepEqual(JSON.parse(lineOf(line, NOW)), {
    ...{ time: '2026-01-02T00:00:00.000Z', method: 'GET', path: '/v1/tensors/a', status: 200, ms: 1.235, bytes: 10 },
    ...{ keyid: 'k', tenant: 't', address: '::1', requestId: 'r', traceId: 'c' },
  });
});

for (const [url, path] of [
  ['http://u:secret@edge/v1/tensors?prefix=secret&limit=5', '/v1/tensors?prefix=…&limit=…'],
  ['http://edge/?secret&a=secret&=secret#secret', '/?…&a=…&=…'],
  [`http://edge/?${'a'.repeat(300)}=secret`, '/?…'],
  [`http://edge/${'a'.repeat(600)}`, `/${'a'.repeat(511)}`],
  ['http://edge', '/'],
] as const)
  test(`lineOf: the path of ${url.slice(0, 60)}`, () =>
    assert.equal(JSON.parse(lineOf({ ...line, url }, NOW)).path, path));

test('lineOf: whatever a caller sends, a line is one, ASCII and bounded', () => {
  const text = fc.string({ unit: 'binary', maxLength: 3000 });
  fc.assert(
    fc.property(text, text, text, (path, keyid, method) => {
      const written = lineOf({ ...line, url: `http://edge/${path}`, keyid, method }, NOW);
      assert.match(written, /^[\x20-\x7e]+\n$/);
      assert.ok(written.length <= LINE_CHARS_MAX, `${written.length}`);
      assert.equal(JSON.parse(written).keyid, keyid.slice(0, 128));
    }),
    { seed },
  );
});

test('createAccessLog: one write at a time; while that is slow lines gather, and beyond the bound are dropped and counted', async () => {
  const written: string[] = [];
  let take = (): void => {};
  const log = createAccessLog(
    (lines) => {
      written.push(lines);
      return new Promise<void>((resolve) => {
        take = resolve;
      });
    },
    () => NOW,
  );
  const chars = lineOf(line, NOW).length;
  const room = Math.floor((256 << 10) / chars);
  log.note(line);
  await new Promise((resolve) => setImmediate(resolve));
  for (let i = 0; i < room + 7; i++) log.note(line);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([written.length, log.dropped], [1, 7]);
  take();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([written.length, written[1]?.length], [2, room * chars]);
  take();
  await log.close();
});

test('createAccessLog: a reader who has left, or never reads, holds neither lines nor the end', async () => {
  const left = createAccessLog(
    () => Promise.reject(new Error('EPIPE')),
    () => NOW,
  );
  left.note(line);
  await left.close();
  const asleep = createAccessLog(
    () => new Promise(() => {}),
    () => NOW,
  );
  asleep.note(line);
  await asleep.close();
});

test('routeClass: a few words, whatever is sent', () => {
  const expected = {
    ...{
      '/v1/tensors': 'list',
      '/v1/tensors/a/b': 'tensors',
      '/v1/tensors:batch': 'batch',
      '/v1/tensors:renew': 'claims',
    },
    ...{ '/v1/kv/load': 'kv', '/v1/cache/stats': 'cache', '/v1/adapters/0/drain': 'adapters', '/v1/audit': 'keys' },
    ...{ '/v1/backups': 'backups', '/v1/erasures/x': 'erasures', '/healthz': 'health', '/': 'other', '/v1': 'other' },
    ...{ '/v2/tensors/a': 'other', '/v1/toString': 'other', '/v1/__proto__/x': 'other' },
  };
  for (const [path, name] of Object.entries(expected)) assert.equal(routeClass(path), name, path);
  const names = new Set<string>();
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      for (const path of [text, `/v1/${text}`, `/v1/tensors${text}`]) names.add(routeClass(path));
    }),
    { seed },
  );
  assert.ok(names.size <= 12, [...names].join());
});
