// Both crypto ports against published vectors and against each other, and the strictness of the text forms.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Crypto, fromBase64, fromHex, toBase64, toHex } from '../../../core/contract/crypto.ts';
import { nodeCrypto } from '../../../core/contract/crypto-node.ts';
import { webCrypto } from '../../../core/contract/crypto-web.ts';

const ports: [string, Crypto][] = [
  ['nodeCrypto', nodeCrypto],
  ['webCrypto', webCrypto],
];
const bytes = (text: string) => new TextEncoder().encode(text);
const seeded = (length: number, seed: number) =>
  Uint8Array.from({ length }, (_, at) => (at * 167 + seed * 89 + 13) & 255);

for (const [name, crypto] of ports) {
  test(`${name}.sha256() gives the vectors of FIPS 180-2`, async () => {
    const abc = await crypto.sha256(bytes('abc'));
    assert.equal(toHex(abc), 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
    const empty = await crypto.sha256(new Uint8Array());
    assert.equal(toHex(empty), 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  test(`${name}.hmacSha256() gives the vectors of RFC 4231`, async () => {
    const first = await crypto.hmacSha256(new Uint8Array(20).fill(0x0b), bytes('Hi There'));
    assert.equal(toHex(first), 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7');
    const second = await crypto.hmacSha256(bytes('Jefe'), bytes('what do ya want for nothing?'));
    assert.equal(toHex(second), '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843');
    const longKey = await crypto.hmacSha256(
      new Uint8Array(131).fill(0xaa),
      bytes('Test Using Larger Than Block-Size Key - Hash Key First'),
    );
    assert.equal(toHex(longKey), '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54');
  });

  test(`${name}.hmacSha256() refuses an empty secret`, async () => {
    await assert.rejects(async () => crypto.hmacSha256(new Uint8Array(), bytes('x')), RangeError);
  });

  test(`${name} answers plain Uint8Arrays`, async () => {
    const answers = [
      await crypto.sha256(bytes('a')),
      await crypto.hmacSha256(bytes('k'), bytes('a')),
      crypto.randomBytes(3),
    ];
    for (const answer of answers) assert.equal(Object.getPrototypeOf(answer), Uint8Array.prototype);
  });

  test(`${name}.equal() tells any one bit and any length apart`, () => {
    const a = seeded(33, 1);
    assert.equal(crypto.equal(a, a.slice()), true);
    assert.equal(crypto.equal(new Uint8Array(), new Uint8Array()), true);
    assert.equal(crypto.equal(a, a.slice(0, 32)), false);
    for (let at = 0; at < a.length; at += 1) {
      const b = a.slice();
      b[at] = (b[at] ?? 0) ^ (1 << (at % 8));
      assert.equal(crypto.equal(a, b), false);
    }
  });

  test(`${name}.randomBytes() gives any count, each time other bytes`, () => {
    assert.equal(crypto.randomBytes(0).length, 0);
    assert.notDeepEqual(crypto.randomBytes(16), crypto.randomBytes(16));
    const many = crypto.randomBytes(70_000);
    assert.equal(many.length, 70_000);
    assert.ok(many.subarray(65_536).some((byte) => byte !== 0));
  });
}

test('the ports agree, also for views, for long secrets and for more keys than are kept', async () => {
  for (let seed = 0; seed < 600; seed += 1) {
    const secret = seeded(1 + (seed % 300), seed).subarray(seed % 2);
    const data = seeded(seed, seed).subarray(seed % 3);
    if (secret.length === 0) continue;
    assert.deepEqual(await webCrypto.hmacSha256(secret, data), await nodeCrypto.hmacSha256(secret, data));
    assert.deepEqual(await webCrypto.sha256(data), await nodeCrypto.sha256(data));
  }
});

test('webCrypto.hmacSha256() sees that a secret was changed in place', async () => {
  const secret = seeded(32, 1);
  const before = await webCrypto.hmacSha256(secret, bytes('x'));
  secret[0] = (secret[0] ?? 0) ^ 1;
  assert.notDeepEqual(await webCrypto.hmacSha256(secret, bytes('x')), before);
});

test('webCrypto.hmacSha256() imports a key once, keeps the 256 used last, and none of the very long', async (t) => {
  const imports = t.mock.method(globalThis.crypto.subtle, 'importKey').mock;
  const use = (number: number) => webCrypto.hmacSha256(bytes(`kept ${number}`), bytes('x'));
  const importsOf = async (number: number) => {
    const before = imports.callCount();
    await use(number);
    return imports.callCount() - before;
  };
  for (let number = 0; number < 256; number += 1) assert.equal(await importsOf(number), 1);
  for (let number = 0; number < 256; number += 1) assert.equal(await importsOf(number), 0);
  await use(0);
  await use(256);
  assert.equal(await importsOf(0), 0);
  assert.equal(await importsOf(1), 1);
  const before = imports.callCount();
  for (let round = 0; round < 2; round += 1) await webCrypto.hmacSha256(new Uint8Array(257), bytes('x'));
  assert.equal(imports.callCount() - before, 2);
});

test('base64 goes both ways like Buffer, at every length and over the chunk', () => {
  for (const length of [...Array(70).keys(), 8191, 8192, 8193, 100_000]) {
    const data = seeded(length, length);
    const text = toBase64(data);
    assert.equal(text, Buffer.from(data).toString('base64'));
    assert.deepEqual(fromBase64(text), data);
  }
});

test('fromBase64() refuses what is not the one canonical text', () => {
  const refused = [
    'A',
    'AA',
    'AAA',
    'AA=',
    'AB==',
    'AAB=',
    'A===',
    '====',
    '=',
    '==',
    'AA==AA==',
    'AAAA=',
    '=AAA',
    'A=AA',
  ];
  for (const text of [...refused, ' AAAA', 'AA AA', 'AAAA\n', 'AA-_', 'AAAé', 'AAA\0'])
    assert.equal(fromBase64(text), undefined, text);
  for (const text of ['', 'AA==', 'AAA=', 'AAAA', '//8=', '/w=='])
    assert.equal(toBase64(fromBase64(text) ?? bytes('?')), text);
});

test('hex goes both ways in lower case, and fromHex() refuses the rest', () => {
  const all = Uint8Array.from({ length: 256 }, (_, byte) => byte);
  assert.equal(toHex(all), Buffer.from(all).toString('hex'));
  assert.deepEqual(fromHex(toHex(all)), all);
  for (const text of ['a', 'AB', 'zz', ' a', '0x', '+1', 'ab ']) assert.equal(fromHex(text), undefined, text);
});
