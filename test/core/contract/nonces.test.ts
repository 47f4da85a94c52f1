// The memory of nonces: nothing unexpired is forgotten, everything expired is, whatever the clock does.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { memoryNonces } from '../../../core/contract/nonces.ts';

const START = 1_800_000_000_000;

function setup(max?: number) {
  const clock = { now: START };
  const nonces = memoryNonces({ now: () => clock.now, ...(max === undefined ? {} : { max }) });
  return { clock, nonces };
}

test('firstSeen() is true once for each nonce', () => {
  const { clock, nonces } = setup();
  assert.equal(nonces.firstSeen('k', 'nonce-01', clock.now + 300_000), true);
  assert.equal(nonces.firstSeen('k', 'nonce-01', clock.now + 300_000), false);
  assert.equal(nonces.firstSeen('k', 'nonce-02', clock.now + 300_000), true);
});

test('firstSeen() refuses a seen nonce under another expiry', () => {
  const { clock, nonces } = setup();
  nonces.firstSeen('k', 'nonce-01', clock.now + 300_000);
  assert.equal(nonces.firstSeen('k', 'nonce-01', clock.now + 10_000), false);
  assert.equal(nonces.firstSeen('k', 'nonce-01', clock.now + 330_000), false);
});

test('firstSeen() keeps keys apart, however their text runs together', () => {
  const { clock, nonces } = setup();
  const pairs = [
    ['ab', 'c-nonce'],
    ['a', 'bc-nonce'],
    ['', 'abc-nonce'],
    ['1:a', 'nonce'],
    ['1', ':anonce'],
    ['1:', 'anonce'],
  ] as const;
  for (const [keyid, nonce] of pairs) assert.equal(nonces.firstSeen(keyid, nonce, clock.now + 1000), true);
  for (const [keyid, nonce] of pairs) assert.equal(nonces.firstSeen(keyid, nonce, clock.now + 1000), false);
});

test('firstSeen() never forgets an unexpired nonce, to the millisecond', () => {
  for (let offset = 0; offset < 400_000; offset += 7919) {
    const { clock, nonces } = setup();
    const expiresAt = clock.now + offset;
    assert.equal(nonces.firstSeen('k', 'nonce-01', expiresAt), true);
    for (clock.now = START; clock.now < expiresAt; clock.now += 10_007)
      assert.equal(nonces.firstSeen('k', 'nonce-01', expiresAt), false);
    clock.now = expiresAt;
    assert.equal(nonces.firstSeen('k', 'nonce-01', expiresAt), false);
  }
});

test('firstSeen() throws replays_full at the bound, and still knows what it has seen', () => {
  const { clock, nonces } = setup(3);
  for (const keyid of ['a', 'b', 'c']) nonces.firstSeen(keyid, 'one', clock.now + 300_000);
  for (const keyid of ['a', 'd'])
    assert.throws(() => nonces.firstSeen(keyid, 'two', clock.now + 300_000), { code: 'replays_full' });
  assert.equal(nonces.firstSeen('a', 'one', clock.now + 300_000), false);
});

test('firstSeen() refuses keys that flood while there is room for others', () => {
  const { clock, nonces } = setup(9000);
  const flood = (keyid: string): number => {
    for (let at = 0; ; at++)
      try {
        nonces.firstSeen(keyid, `${at}`, clock.now + 300_000);
      } catch {
        return at;
      }
  };
  assert.equal(flood('a'), 8000);
  assert.equal(flood('b'), 889); // eight ninths of what is left
  for (let at = 0; at < 9; at++) assert.equal(nonces.firstSeen(`c${at}`, 'one', clock.now + 300_000), true);
  assert.equal(nonces.firstSeen('c', 'one', clock.now + 300_000), true);
  clock.now += 420_001;
  assert.equal(flood('a'), 8000);
});

test('expired nonces make room again', () => {
  const { clock, nonces } = setup(1000);
  for (let round = 0; round < 20; round += 1) {
    for (let at = 0; at < 888; at += 1) assert.equal(nonces.firstSeen('k', `${at}`, clock.now + 300_000), true);
    clock.now += 420_001; // the lifetime and a generation
  }
});

test('a clock that jumps ahead and back revives no nonce, and does not shut others out', () => {
  const { clock, nonces } = setup();
  const expiresAt = clock.now + 300_000;
  nonces.firstSeen('k', 'nonce-01', expiresAt);
  clock.now = START + 86_400_000;
  nonces.firstSeen('k', 'other', clock.now + 300_000);
  clock.now = START;
  assert.equal(nonces.firstSeen('k', 'nonce-01', expiresAt), false);
  clock.now = START + 300_000;
  assert.equal(nonces.firstSeen('k', 'nonce-02', clock.now + 300_000), true);
});

test('memoryNonces() refuses a senseless bound, and firstSeen() a senseless expiry', () => {
  for (const max of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 1e9])
    assert.throws(() => setup(max), RangeError);
  const { nonces } = setup();
  for (const at of [Number.NaN, Number.POSITIVE_INFINITY])
    assert.throws(() => nonces.firstSeen('k', 'n', at), RangeError);
});

test('firstSeen() keeps no header alive that a nonce was cut from', () => {
  setFlagsFromString('--expose-gc');
  const gc: () => void = runInNewContext('gc');
  const { clock, nonces } = setup();
  gc();
  const before = process.memoryUsage().heapUsed;
  for (let at = 0; at < 10_000; at += 1) {
    const header = `${'h'.repeat(4000)}${at.toString().padStart(32, '0')}`;
    nonces.firstSeen('k', Buffer.from(header).toString('latin1').slice(4000), clock.now + 300_000);
  }
  gc();
  const bytesEach = (process.memoryUsage().heapUsed - before) / 10_000;
  assert.ok(bytesEach < 1000, `${bytesEach} bytes are kept for each nonce`);
  assert.equal(nonces.firstSeen('k', '0'.repeat(32), clock.now + 300_000), false);
});
