// Who may read /metrics: everybody on loopback, elsewhere whoever has the token, and nobody without one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isLoopback, metricsGuard } from '../../../core/contract/metrics-guard.ts';

test('isLoopback() knows the addresses that only this machine reaches', () => {
  for (const host of ['127.0.0.1', '127.1', '127.255.255.254', '::1', 'localhost'])
    assert.equal(isLoopback(host), true, host);
});

test('isLoopback() takes nothing else for loopback', () => {
  const others = [
    '0.0.0.0',
    '::',
    '',
    '10.0.0.1',
    '1127.0.0.1',
    '127',
    '127.',
    '127.0.0.1.example.org',
    '127.example.org',
  ];
  for (const host of [...others, 'localhost.example.org', '::11', '::1%eth0', ' 127.0.0.1', '127.0.0.1\n'])
    assert.equal(isLoopback(host), false, host);
});

test('metricsGuard() lets everybody read on loopback', () => {
  const allowed = metricsGuard('127.0.0.1', 'token');
  for (const field of [undefined, '', 'Bearer wrong']) assert.equal(allowed(field), true);
});

test('metricsGuard() lets nobody read before the world without a token', () => {
  const allowed = metricsGuard('0.0.0.0', undefined);
  for (const field of [undefined, '', 'Bearer ', 'Bearer undefined']) assert.equal(allowed(field), false);
});

test('metricsGuard() wants the very token', () => {
  const allowed = metricsGuard('0.0.0.0', 'tokén');
  assert.equal(allowed('Bearer tokén'), true);
  const wrong = [
    'Bearer toke',
    'Bearer tokén ',
    'Bearer tokéN',
    'bearer tokén',
    'tokén',
    'Bearer',
    'Bearer tokén\0',
    '',
  ];
  for (const field of [...wrong, undefined]) assert.equal(allowed(field), false, field);
});
