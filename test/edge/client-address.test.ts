// Whose address it is: seeded chains of proxies beside a model that knows who really called, and whatever somebody may write into the field.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { contains, parseAddress, parseRange, type Range } from '../../core/contract/addresses.ts';
import {
  type AddressRules,
  assertAllowed,
  clientAddress,
  PROXY_FIELDS,
  type ProxyField,
} from '../../edge/client-address.ts';
import { seeded } from '../support/seeded.ts';

const ROUNDS = 3000;
const random = seeded();
const range = (text: string): Range => parseRange(text) ?? assert.fail(text);
const rules = (field: ProxyField = 'x-forwarded-for'): AddressRules => ({
  proxies: [range('10.0.0.0/8'), range('fd00::/8')],
  field,
  allow: [],
  deny: [],
});
const asked = (peer: string | undefined, fields: Record<string, string>, field?: ProxyField) =>
  clientAddress(rules(field), peer, new Headers(fields));
const proxy = () => random.pick([`10.0.${random.below(256)}.${random.below(256)}`, `fd00::${random.below(9999)}`]);
const stranger = () =>
  random.pick([`203.0.113.${random.below(256)}`, `2001:db8::${random.below(9999)}`, '::ffff:198.51.100.7']);

/** As a proxy of either kind writes it. */
function written(address: string, field: ProxyField): string {
  const six = address.includes(':');
  const port = random.below(3) === 0 ? `:${1 + random.below(65_535)}` : '';
  const node = six && (port || field === 'forwarded') ? `[${address}]${port}` : `${address}${port}`;
  if (field === 'x-forwarded-for') return node;
  const pair = six || port ? `for="${node}"` : `${random.pick(['for', 'For'])}=${node}`;
  return random.pick([pair, `${pair};proto=https`, `by=10.0.0.1;${pair}`, `host="a, b;for=1.2.3.4";${pair}`]);
}

const lies = [
  ...['', 'unknown', '127.0.0.1', '10.0.0.1', 'for=10.0.0.1', '"', 'for="', ',', ';;', '<script>'],
  ...['1.2.3.4, 5.6.7.8', 'for=1.2.3.4;for=5.6.7.8', '_hidden', '\u00e9', 'a'.repeat(500)],
];

test('clientAddress() finds who called through any chain of trusted proxies, whatever the caller wrote before', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  for (let i = 0; i < ROUNDS; i++) {
    const field = random.pick(PROXY_FIELDS);
    const caller = stranger();
    const proxies = Array.from({ length: 1 + random.below(4) }, proxy);
    // The first proxy writes who called it, each other one who came before it; the last is the connection.
    const chain = [caller, ...proxies.slice(0, -1)].map((each) => written(each, field));
    // What the caller sent ends in a comma of the first proxy; an open quote in Forwarded would swallow what follows.
    const lie = random.pick(lies as [string, ...string[]]);
    const fields = { [field]: random.below(2) === 0 ? chain.join(', ') : [lie, ...chain].join(', ') };
    const found = asked(proxies.at(-1), fields, field);
    const isReadable = field === 'x-forwarded-for' || fields[field] === chain.join(', ');
    if (isReadable) assert.deepEqual(found, parseAddress(caller), fields[field]);
    else assert.ok(found === undefined || found.value === parseAddress(caller)?.value, fields[field]);
  }
});

test('nobody is believed but proxies of the networks, and the other field never', () => {
  const lie = { 'x-forwarded-for': '1.2.3.4', forwarded: 'for=1.2.3.4' };
  assert.deepEqual(asked('203.0.113.9', lie), parseAddress('203.0.113.9'));
  assert.deepEqual(clientAddress({ ...rules(), proxies: [] }, '10.0.0.1', new Headers(lie)), parseAddress('10.0.0.1'));
  const other = { forwarded: 'for=1.2.3.4', 'x-forwarded-for': '5.6.7.8' };
  assert.deepEqual(asked('10.0.0.1', other), parseAddress('5.6.7.8'));
  assert.deepEqual(asked('10.0.0.1', other, 'forwarded'), parseAddress('1.2.3.4'));
  assert.deepEqual(asked('::ffff:10.0.0.1', other), parseAddress('5.6.7.8'), 'a socket of both kinds');
});

test('a proxy that says nothing is the caller; all trusted: the first of them', () => {
  assert.deepEqual(asked('10.0.0.1', {}), parseAddress('10.0.0.1'));
  assert.deepEqual(asked('10.0.0.1', { 'x-forwarded-for': '10.0.0.3, 10.0.0.2' }), parseAddress('10.0.0.3'));
});

test('what is no address leaves it unknown: hidden, malformed, too many, too long, no peer', () => {
  for (const said of [
    'unknown',
    '_x',
    '',
    'a b',
    '1.2.3',
    '1.2.3.4:',
    '[1.2.3.4]',
    '1.2.3.4:99999999',
    '[::1',
    '::1]:1',
  ])
    assert.equal(asked('10.0.0.1', { 'x-forwarded-for': `9.9.9.9, ${said}` }), undefined, said);
  for (const said of ['for', 'for=', 'for=1.2.3.4 5', 'for="1.2.3.4', 'proto=https', 'for=a;for=b', 'for=1.2.3.4,'])
    assert.equal(asked('10.0.0.1', { forwarded: said }, 'forwarded'), undefined, said);
  const many = Array.from({ length: 33 }, () => '10.0.0.1').join(',');
  assert.equal(asked('10.0.0.1', { 'x-forwarded-for': many }), undefined);
  assert.equal(asked('10.0.0.1', { 'x-forwarded-for': `${' '.repeat(9000)}x` }), undefined);
  const long = `x${' '.repeat(9000)}1.2.3.4`;
  assert.equal(asked('10.0.0.1', { 'x-forwarded-for': long }), undefined);
  assert.equal(asked('10.0.0.1', { 'x-forwarded-for': `${'x,'.repeat(4500)}10.0.0.2` }), undefined);
  assert.deepEqual(asked('10.0.0.1', { 'x-forwarded-for': `${long}, 5.6.7.8` }), parseAddress('5.6.7.8'));
  assert.deepEqual(asked('10.0.0.1', { 'x-forwarded-for': `${long}, 5.6.7.8, 10.0.0.2` }), parseAddress('5.6.7.8'));
  assert.equal(asked(undefined, { 'x-forwarded-for': '1.2.3.4' }), undefined);
});

test('assertAllowed(): deny goes before allow, and an unknown address passes no list', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const lists = {
    ...rules(),
    allow: [range('203.0.113.0/24'), range('2001:db8::/32')],
    deny: [range('203.0.113.128/25')],
  };
  for (let i = 0; i < 500; i++) {
    const address = parseAddress(random.pick([stranger, proxy])());
    assert.ok(address);
    const fits =
      lists.allow.some((each) => contains(each, address)) && !lists.deny.some((each) => contains(each, address));
    if (fits) assertAllowed(lists, address);
    else assert.throws(() => assertAllowed(lists, address), { code: 'address_refused', status: 403 });
  }
  assert.throws(() => assertAllowed(lists, undefined), { code: 'address_refused' });
  assert.throws(() => assertAllowed({ ...lists, allow: [] }, undefined), { code: 'address_refused' });
  assertAllowed({ ...lists, allow: [], deny: [] }, undefined);
  assertAllowed({ ...lists, allow: [], deny: [] }, parseAddress('203.0.113.200'));
});
