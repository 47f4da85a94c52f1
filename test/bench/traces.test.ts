// Traces as files: what the name says is what is read; and replays of them, counted by hand.

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { bytesOf, replay } from '../../bench/lib/replay.ts';
import { readTrace } from '../../bench/lib/traces.ts';

const folder = mkdtempSync(join(tmpdir(), 'traces-'));
after(() => rmSync(folder, { recursive: true }));

const words = (...numbers: number[]) => Buffer.from(Uint32Array.from(numbers).buffer);
function write(name: string, content: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

test('readTrace() numbers keys by first use, packed or not', () => {
  const keys = words(7, 9, 7, 3);
  for (const path of [write('a.u32', keys), write('b.u32.gz', gzipSync(keys))]) {
    const trace = readTrace(path);
    assert.deepEqual([...trace.keys], [0, 1, 0, 2]);
    assert.equal(trace.distinct, 3);
    assert.equal(trace.bytes, undefined);
  }
});

test('readTrace() takes the sizes that lie beside, a key having its first', () => {
  write('c.sizes.u32.gz', gzipSync(words(10, 20, 99, 0)));
  const trace = readTrace(write('c.u32.gz', gzipSync(words(7, 9, 7, 3))));
  assert.deepEqual([...(trace.bytes ?? [])], [10, 20, 1]);
  assert.equal(bytesOf(trace, 0.5), 15);
  assert.equal(bytesOf(trace, 25), 25);
  const { hits, byteHitRatio } = replay(trace, 31, 'lru');
  assert.deepEqual([hits, byteHitRatio], [1, 10 / 41]);
});

test('readTrace() reads chains, of which hits count up to the first miss', () => {
  const lines = [
    [1, 2, 3],
    [1, 2, 4],
    [9, 2],
  ].map((hash_ids) => JSON.stringify({ timestamp: 0, hash_ids }));
  const trace = readTrace(write('d.jsonl.gz', gzipSync(`${lines.join('\n')}\n`)));
  assert.deepEqual([...(trace.chains ?? [])], [0, 3, 6]);
  const { requests, hits, computeSaved } = replay(trace, 10, 'lru');
  assert.deepEqual([requests, hits, computeSaved], [8, 2, 0.25]);
});

test('readTrace() says what is wrong with a file', () => {
  assert.throws(() => readTrace(join(folder, 'a.csv')), /a\.csv is no trace by its name/);
  assert.throws(() => readTrace(write('e.u32', new Uint8Array(5))), /5 bytes long, no whole number of u32/);
  write('f.sizes.u32', words(1));
  assert.throws(() => readTrace(write('f.u32', words(1, 2))), /2 requests and 1 sizes/);
  assert.throws(() => readTrace(write('g.jsonl', '{"a":1}')), /no hash_ids/);
});
