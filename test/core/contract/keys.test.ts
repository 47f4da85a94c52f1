// What a key may grant: never more than it has itself, whatever is asked, through any number of hands.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseAddress } from '../../../core/contract/addresses.ts';
import {
  assertAt,
  beyond,
  type Grant,
  inherit,
  keyBodySchema,
  restrictionsSchema,
  SCOPES,
} from '../../../core/contract/keys.ts';
import { seeded } from '../../support/seeded.ts';

const random = seeded();
const maker: Grant = {
  tenant: 'a',
  scopes: ['tensors:read', 'keys:admin'],
  restrictions: { prefixes: ['x/', 'y/z'], models: ['m'], addresses: ['10.0.0.0/8', '::1'] },
  expiresAt: 1000,
};

test('beyond() names what a grant has beyond its maker', () => {
  const of = (change: Partial<Grant>, more: object = {}) =>
    beyond(maker, { ...maker, ...change, restrictions: { ...maker.restrictions, ...more } });
  assert.equal(of({}), undefined);
  assert.equal(of({ tenant: 'b' }), 'the tenant b');
  assert.equal(of({ scopes: ['tensors:read', 'tensors:write'] }), 'the scope tensors:write');
  assert.equal(of({ expiresAt: 1001 }), 'a longer life');
  assert.equal(of({ expiresAt: undefined }), 'a longer life');
  assert.equal(of({}, { prefixes: ['x/1', 'y/'] }), 'more prefixes');
  assert.equal(of({}, { models: ['m', 'n'] }), 'more models');
  assert.equal(of({}, { addresses: ['10.1.0.0/16', '11.0.0.1'] }), 'more addresses');
  for (const left of ['prefixes', 'models', 'addresses']) assert.equal(of({}, { [left]: undefined }), `more ${left}`);
  assert.equal(
    of({ expiresAt: 999, scopes: [] }, { prefixes: ['x/1', 'y/zz'], addresses: ['10.1.0.0/16'] }),
    undefined,
  );
});

test('a key that is limited makes no others: each would count for itself', () => {
  assert.equal(beyond({ ...maker, limits: { concurrent: 1 } }, maker), 'a use without limits');
  assert.equal(beyond({ ...maker, limits: {} }, { ...maker, limits: { concurrent: 1 } }), undefined);
  assert.deepEqual(inherit(maker, { ...maker, limits: { concurrent: 1 } }).limits, { concurrent: 1 });
});

test('only an operator grants to other tenants, and the rest of it is bounded all the same', () => {
  const operator = { ...maker, scopes: [...maker.scopes, 'operator'] };
  assert.equal(beyond(operator, { ...maker, tenant: 'b' }), undefined);
  assert.equal(beyond(operator, { ...maker, tenant: 'b', scopes: ['kv:read'] }), 'the scope kv:read');
  assert.equal(beyond(maker, operator), 'the scope operator');
});

test('through many hands nobody comes to more than the first had', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const few = (all: readonly string[]) => all.filter(() => random.below(2) === 0);
  const some = (all: readonly string[]) => (random.below(3) === 0 ? {} : { list: few(all) }).list;
  const asked = (): Grant => ({
    tenant: random.pick(['a', 'b']),
    scopes: few(SCOPES),
    restrictions: JSON.parse(
      JSON.stringify({
        prefixes: some(['x/', 'x/1', 'y/z', 'z']),
        models: some(['m', 'n']),
        addresses: some(['10.0.0.0/8', '10.1.0.0/16', '::1', '0.0.0.0/0']),
      }),
    ),
    expiresAt: random.below(2) === 0 ? undefined : random.below(2000),
  });
  let granted = 0;
  for (let round = 0; round < 2000; round++) {
    let hand = asked();
    const first = hand;
    for (let step = 0; step < 5; step++) {
      const next = inherit(hand, { ...asked(), tenant: hand.tenant });
      if (beyond(hand, next) !== undefined) continue;
      granted += 1;
      hand = next;
    }
    assert.equal(beyond(first, hand), undefined);
  }
  assert.ok(granted > 100, `${granted}`);
});

test('assertAt() lets a restricted key in from its addresses alone', () => {
  const key = { ...maker, keyid: 'k' };
  assertAt(key, parseAddress('10.9.8.7'));
  assertAt(key, parseAddress('::ffff:10.9.8.7'));
  assertAt({ ...key, restrictions: {} }, undefined);
  for (const address of ['11.0.0.1', '::2', ''])
    assert.throws(() => assertAt(key, parseAddress(address)), { code: 'address_refused', status: 403 });
});

test('what is asked of a key is judged strictly', () => {
  const body = { scopes: ['tensors:read'] };
  assert.deepEqual(keyBodySchema.parse(body), { name: '', scopes: ['tensors:read'], restrictions: {}, limits: {} });
  for (const more of [
    ...[{ scopes: [] }, { scopes: ['all'] }, { scopes: ['internal'] }, { other: 1 }],
    ...[{ name: 'a\nb' }, { name: 'a\u202eb' }, { tenant: '../b' }, { tenant: '' }],
    ...[{ ttl: 0 }, { ttl: 1.5 }, { restrictions: { prefixes: [] } }, { restrictions: { addresses: ['10.0.0.1/8'] } }],
  ])
    assert.ok(!keyBodySchema.safeParse({ ...body, ...more }).success, JSON.stringify(more));
  assert.ok(!restrictionsSchema.safeParse({ prefixes: Array(65).fill('a') }).success);
});
