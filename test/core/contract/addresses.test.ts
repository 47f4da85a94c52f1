// Addresses and ranges, beside Node's own parser and block list: seeded, and the texts that have two readings.
import assert from 'node:assert/strict';
import { BlockList, isIP } from 'node:net';
import { test } from 'node:test';
import {
  type Address,
  contains,
  isWithin,
  parseAddress,
  parseRange,
  type Range,
  subscriberOf,
  textOf,
} from '../../../core/contract/addresses.ts';
import { seeded } from '../../support/seeded.ts';

const ROUNDS = 3000;
const random = seeded();

const four = () => Array.from({ length: 4 }, () => random.pick([0, 1, 10, 127, 255, random.below(256)])).join('.');
const group = () => random.pick([0, 0, 1, 0xffff, random.below(65_536)]).toString(16);

/** In one of the forms that there are: whole, shortened, with an IPv4 tail. */
function six(): string {
  const tail = random.below(4) === 0 ? four() : undefined;
  const groups = Array.from({ length: tail ? 6 : 8 }, group);
  if (random.below(2) === 0) {
    const at = random.below(groups.length);
    const count = 1 + random.below(groups.length - at);
    const head = groups.slice(0, at).join(':');
    const rest = [...groups.slice(at + count), ...(tail ? [tail] : [])].join(':');
    return `${head}::${rest}`;
  }
  return [...groups, ...(tail ? [tail] : [])].join(':');
}

const address = (text: string): Address => parseAddress(text) ?? assert.fail(text);
const range = (text: string): Range => parseRange(text) ?? assert.fail(text);

test('parseAddress() takes what Node takes, and nothing else', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  const letters = [...'0123456789abcdefF:.:. %/'];
  for (let i = 0; i < ROUNDS; i++) {
    let text = random.pick([four, six])();
    for (let changes = random.below(3); changes > 0; changes--) {
      const at = random.below(text.length + 1);
      text = text.slice(0, at) + letters[random.below(letters.length)] + text.slice(at + random.below(2));
    }
    if (text.includes('%')) continue;
    assert.equal(parseAddress(text) !== undefined, isIP(text) !== 0, text);
  }
});

test('contains() says what a block list of Node says', (t) => {
  t.diagnostic(`SEED=${random.seed}`);
  for (let i = 0; i < ROUNDS; i++) {
    const isFour = random.below(2) === 0;
    const [text, width] = isFour ? ([four(), 32] as const) : ([six(), 128] as const);
    const bits = random.below(width + 1);
    const whole = address(text);
    if (!isFour && whole.family === 4) continue; // an IPv4 address in IPv6's words: below
    const free = BigInt(width - bits);
    const base: Range = { family: whole.family, value: (whole.value >> free) << free, free: width - bits };
    const near = whole.value ^ (1n << BigInt(random.below(width)));
    const list = new BlockList();
    list.addSubnet(textOf(base), bits, isFour ? 'ipv4' : 'ipv6');
    for (const value of [whole.value, near, base.value]) {
      const asked = { family: whole.family, value };
      const told = textOf(asked);
      if (parseAddress(told)?.family !== whole.family) continue;
      assert.equal(
        contains(base, asked),
        list.check(told, isFour ? 'ipv4' : 'ipv6'),
        `${textOf(base)}/${bits} ${told}`,
      );
      assert.deepEqual(parseRange(`${textOf(base)}/${bits}`), base);
    }
  }
});

test('an IPv4 address in the words of IPv6 is the IPv4 address, in ranges too', () => {
  for (const text of ['::ffff:10.1.2.3', '::FFFF:0a01:0203', '0:0:0:0:0:ffff:10.1.2.3'])
    assert.deepEqual(parseAddress(text), parseAddress('10.1.2.3'));
  assert.deepEqual(parseRange('::ffff:10.0.0.0/104'), parseRange('10.0.0.0/8'));
  assert.equal(parseRange('::ffff:0:0/95'), undefined, 'half of it would be IPv6');
  assert.ok(!contains(range('::/0'), address('10.1.2.3')));
  assert.ok(!contains(range('0.0.0.0/0'), address('::1')));
});

test('what has two readings is no address and no range', () => {
  for (const text of [
    '',
    '010.0.0.1',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '0x7f.1',
    '1.2.3.4 ',
    ':::',
    '1::2::3',
    '::1.2.3',
  ])
    assert.equal(parseAddress(text), undefined, text);
  for (const text of [
    '10.0.0.1/8',
    '10.0.0.0/33',
    '10.0.0.0/',
    '10.0.0.0/08',
    '10.0.0.0/8/8',
    '::1/-1',
    'fe80::%1/64',
    '/8',
  ])
    assert.equal(parseRange(text), undefined, text);
  assert.equal(parseAddress(`::1%${'x'.repeat(100)}`), undefined);
});

test('a zone is dropped; an address alone is a range of one', () => {
  assert.deepEqual(parseAddress('fe80::1%eth0'), parseAddress('fe80::1'));
  assert.ok(contains(range('10.0.0.1'), address('10.0.0.1')));
  assert.ok(!contains(range('10.0.0.1'), address('10.0.0.2')));
});

test('isWithin() compares ranges, subscriberOf() counts a network of IPv6 as one', () => {
  assert.ok(isWithin(range('10.1.0.0/16'), range('10.0.0.0/8')));
  assert.ok(isWithin(range('10.0.0.0/8'), range('10.0.0.0/8')));
  assert.ok(!isWithin(range('10.0.0.0/8'), range('10.1.0.0/16')));
  assert.ok(!isWithin(range('11.0.0.0/16'), range('10.0.0.0/8')));
  assert.equal(subscriberOf(address('2001:db8::1')), subscriberOf(address('2001:db8::ffff:1')));
  assert.notEqual(subscriberOf(address('2001:db8::1')), subscriberOf(address('2001:db8:0:1::1')));
  assert.notEqual(subscriberOf(address('10.0.0.1')), subscriberOf(address('10.0.0.2')));
});
