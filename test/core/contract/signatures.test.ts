// Signed requests over both crypto ports: the vector of RFC 9421 B.2.5, the round trip, and every refusal by its code.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { contentDigest, parseContentDigest } from '../../../core/contract/content-digest.ts';
import { type Crypto, fromBase64, toBase64 } from '../../../core/contract/crypto.ts';
import { nodeCrypto } from '../../../core/contract/crypto-node.ts';
import { webCrypto } from '../../../core/contract/crypto-web.ts';
import { memoryNonces } from '../../../core/contract/nonces.ts';
import type { ProblemCode } from '../../../core/contract/problems.ts';
import { signatureBase } from '../../../core/contract/signature-base.ts';
import {
  createVerifier,
  type Key,
  type Received,
  type SigningRequest,
  signRequest,
} from '../../../core/contract/signatures.ts';
import { type Bare, parseDictionary, TEXT_LENGTH_MAX } from '../../../core/contract/structured-fields.ts';

const NOW = 1_800_000_000;
const secret = Uint8Array.from({ length: 32 }, (_, at) => (at * 37 + 11) & 255);
const key: Key = { keyid: 'admin', tenant: 'home', scopes: ['tensors:read'], secret };
const text = (value: string) => new TextEncoder().encode(value);
const params = (entries: Record<string, Bare>) => new Map(Object.entries(entries));

interface Setup {
  crypto: Crypto;
  nowMs: number;
  hmacs: number;
}

function setup(port: Crypto) {
  const state: Setup = {
    nowMs: NOW * 1000,
    hmacs: 0,
    crypto: {
      ...port,
      hmacSha256(...given) {
        state.hmacs += 1;
        return port.hmacSha256(...given);
      },
    },
  };
  const now = () => state.nowMs;
  const keyOf = (keyid: string) => (keyid === key.keyid ? key : undefined);
  const verify = createVerifier({ crypto: state.crypto, keyOf, nonces: memoryNonces({ now }), now });
  return { state, verify };
}

const wanted = { method: 'GET', url: 'http://127.0.0.1:8000/v1/tensors/a/b?codec=raw&ttl=5' };

type Arrived = Received & { readonly headers: Headers };

/** A request as it arrives, signed by the wanted terms. */
async function signed(port: Crypto, change: Partial<SigningRequest> = {}): Promise<Arrived> {
  const request = { ...wanted, keyid: key.keyid, secret, created: NOW, ...change };
  const headers = new Headers(await signRequest(request, port));
  return { method: request.method, url: request.url, headers, hasBody: change.digest !== undefined };
}

/** A request whose signature-input is written by hand; its HMAC is right where the field can be read. */
async function written(port: Crypto, input: string, more: Record<string, string> = {}): Promise<Arrived> {
  const headers = new Headers({ 'signature-input': `sig=${input}`, ...more });
  const components = [...(/\((.*?)\)/.exec(input)?.[1] ?? '').matchAll(/"(.*?)"/g)].map((match) => match[1] ?? '');
  const terms = input.slice(input.indexOf(')') + 1);
  const bare = new Map<string, Bare>();
  let base = '';
  try {
    base = signatureBase(components, bare, { ...wanted, headers }) + terms;
  } catch {}
  if (!headers.has('signature'))
    headers.set('signature', `sig=:${toBase64(await port.hmacSha256(secret, text(base)))}:`);
  return { ...wanted, headers, hasBody: false };
}

const refused = (attempt: () => Promise<unknown>, code: ProblemCode, fact?: RegExp) =>
  assert.rejects(attempt, (thrown: { code?: string; message?: string }) => {
    assert.equal(thrown.code, code, thrown.message);
    if (fact) assert.match(thrown.message ?? '', fact);
    return true;
  });

const COVERED = '("@method" "@path" "@query")';
const TERMS = `;created=${NOW};keyid="admin";nonce="nonce-01"`;

describe('signatureBase()', () => {
  const request = {
    method: 'POST',
    url: 'https://Example.com:443/a%20b/?q=1&r#part',
    headers: new Headers([
      ['x-two', ' a '],
      ['x-two', 'b'],
      ['x-empty', ''],
      ['host', 'Other.example'],
    ]),
  };

  test('writes every derived component and joins field lines', () => {
    const names = ['@method', '@path', '@query', '@authority', '@scheme', '@target-uri', 'x-two', 'x-empty'];
    assert.equal(
      signatureBase(names, params({ created: 1, tag: 'a"b\\' }), request),
      [
        '"@method": POST',
        '"@path": /a%20b/',
        '"@query": ?q=1&r',
        '"@authority": example.com',
        '"@scheme": https',
        '"@target-uri": https://Example.com:443/a%20b/?q=1&r',
        '"x-two": a, b',
        '"x-empty": ',
        `"@signature-params": (${names.map((name) => `"${name}"`).join(' ')});created=1;tag="a\\"b\\\\"`,
      ].join('\n'),
    );
  });

  test('finds path and query in every form of URL', () => {
    const cases: [url: string, path: string, query: string][] = [
      ['http://h', '/', '?'],
      ['http://h?', '/', '?'],
      ['http://h?a=/b', '/', '?a=/b'],
      ['http://h#/x?y', '/', '?'],
      ['http://h/p#x?y', '/p', '?'],
      ['http://h/p?u=http://i/j?k', '/p', '?u=http://i/j?k'],
      ['/p/q?a', '/p/q', '?a'],
      ['//p?u=x://y', '//p', '?u=x://y'],
      ['/', '/', '?'],
    ];
    for (const [url, path, query] of cases) {
      const base = signatureBase(['@path', '@query'], new Map(), { ...request, url });
      assert.ok(base.startsWith(`"@path": ${path}\n"@query": ${query}\n`), `${url}: ${base}`);
    }
  });

  test('ends the origin of @target-uri where the path or the query begins', () => {
    const base = signatureBase(['@target-uri', '@scheme'], new Map(), { ...request, url: 'http://h?a=/b#c' });
    for (const url of ['http://h/p', 'http://h/p?'])
      assert.ok(signatureBase(['@target-uri'], new Map(), { ...request, url }).startsWith(`"@target-uri": ${url}\n`));
    assert.ok(base.startsWith('"@target-uri": http://h/?a=/b\n"@scheme": http\n'), base);
  });

  test('takes @authority from the host field where the URL is a path', () => {
    const base = signatureBase(['@authority'], new Map(), { ...request, url: '/x' });
    assert.ok(base.startsWith('"@authority": other.example\n'));
  });

  test('refuses duplicate, unknown, missing and unreadable components', () => {
    const tryOne = (names: string[], change: object, code: ProblemCode) =>
      assert.throws(() => signatureBase(names, new Map(), { ...request, ...change }), { code });
    tryOne(['@path', '@path'], {}, 'signature_malformed');
    tryOne(['@status'], {}, 'signature_malformed');
    tryOne(['@query-param'], {}, 'signature_malformed');
    tryOne(['X-Two'], {}, 'signature_malformed');
    tryOne([''], {}, 'signature_malformed');
    tryOne(['x"\n"@path'], {}, 'signature_malformed');
    tryOne(['x-none'], {}, 'signature_incomplete');
    tryOne(['@scheme'], { url: '/x' }, 'signature_malformed');
    tryOne(['@target-uri'], { url: '/x' }, 'signature_malformed');
    tryOne(['@authority'], { url: 'http://[/x' }, 'signature_malformed');
    tryOne(['@path'], { url: 'x?://y' }, 'signature_malformed');
    tryOne(['@path'], { url: '/é' }, 'signature_malformed');
    tryOne(['@path'], { url: '/x\n"@query": ?' }, 'signature_malformed');
    tryOne(
      Array.from({ length: 33 }, (_, at) => `x-${at}`),
      {},
      'signature_malformed',
    );
  });
});

describe('content digests', () => {
  const digest = Uint8Array.from({ length: 32 }, (_, at) => 255 - at);

  test('parseContentDigest() undoes contentDigest(), also beside other algorithms', () => {
    assert.deepEqual(parseContentDigest(contentDigest(digest)), digest);
    assert.deepEqual(parseContentDigest(`sha-512=:AAAA:, ${contentDigest(digest)}`), digest);
  });

  test('contentDigest() refuses what is no sha-256', () => {
    assert.throws(() => contentDigest(digest.subarray(1)), RangeError);
  });

  test('parseContentDigest() refuses what holds no readable sha-256', () => {
    const field = contentDigest(digest);
    const fields = [
      '',
      'sha-256',
      'sha-256=',
      'sha-256=1',
      'sha-256="x"',
      'sha-256=::',
      'sha-256=:AAAA:',
      'sha-256=()',
      'sha-512=:AAAA:',
    ];
    const damaged = [
      `${field},`,
      `${field} x`,
      `${field}, ${field}`,
      field.slice(0, -1),
      field.replace('=:', ':'),
      field.replace('=:', '=: '),
    ];
    for (const value of [...fields, ...damaged, field.toUpperCase(), `sha-256=(${field.slice(8)})`, field.padEnd(5000)])
      assert.throws(() => parseContentDigest(value), { code: 'digest_malformed' }, value);
  });
});

describe('parseDictionary()', () => {
  const parse = (value: string) => parseDictionary('field', value, 'signature_malformed');

  test('reads the spacing that the RFC allows, to the same values', () => {
    const dense = parse('a=("x" "y";p=1);q="\\"\\\\",b=:AAAA:;f,c=-07');
    const wide = parse('  a=(  "x"  "y"; p=1  ); q="\\"\\\\" \t,\t b=:AAAA:;  f  ,  c=-7  ');
    assert.deepEqual(wide, dense);
    assert.deepEqual(dense.get('a'), {
      items: [
        { value: 'x', params: new Map() },
        { value: 'y', params: params({ p: 1 }) },
      ],
      params: params({ q: '"\\' }),
    });
    assert.deepEqual(dense.get('b'), { value: new Uint8Array(3), params: params({ f: true }) });
    assert.deepEqual(dense.get('c'), { value: -7, params: new Map() });
  });

  test('reads long fields in time that grows no faster than they do', () => {
    for (const junk of ['"\\"', '("a" ', ';a', ' ', ':AAAA', 'a=1,', '("\\\\'])
      assert.throws(() => parse(`a=${junk.repeat(TEXT_LENGTH_MAX)}`.slice(0, TEXT_LENGTH_MAX)), {
        code: 'signature_malformed',
      });
  });
});

for (const [name, port] of [
  ['nodeCrypto', nodeCrypto],
  ['webCrypto', webCrypto],
] as const) {
  describe(`signatures over ${name}`, () => {
    test('the vector of RFC 9421 B.2.5 gives its base and its signature', async () => {
      const testSecret = fromBase64(
        'uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==',
      );
      assert.ok(testSecret);
      const headers = new Headers({ date: 'Tue, 20 Apr 2021 02:07:55 GMT', 'content-type': 'application/json' });
      const terms = params({ created: 1618884473, keyid: 'test-shared-secret' });
      const base = signatureBase(['date', '@authority', 'content-type'], terms, {
        method: 'POST',
        url: 'https://example.com/foo?param=Value&Pet=dog',
        headers,
      });
      assert.equal(
        base,
        '"date": Tue, 20 Apr 2021 02:07:55 GMT\n"@authority": example.com\n"content-type": application/json\n' +
          '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
      );
      const signature = await port.hmacSha256(testSecret, text(base));
      assert.equal(toBase64(signature), 'pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=');
    });

    test('createVerifier() reads the fields of B.2.5 and tells all that they lack', async () => {
      const { verify } = setup(port);
      const headers = new Headers({
        'signature-input': 'sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
        signature: 'sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:',
      });
      const request = { method: 'POST', url: 'https://example.com/foo', headers, hasBody: true };
      const missing = ['@method', '@path', '@query', 'content-digest', 'nonce'];
      await assert.rejects(verify(request), { code: 'signature_incomplete', status: 401, extra: { missing } });
    });

    test('createVerifier() accepts what signRequest() signs and answers the caller without the secret', async () => {
      const { verify } = setup(port);
      const caller = { keyid: 'admin', tenant: 'home', scopes: ['tensors:read'] };
      const verified = await verify(await signed(port));
      const covered = ['@method', '@path', '@query'];
      assert.deepEqual(verified, { caller, covered });
      const digest = await port.sha256(text('body'));
      const withBody = await verify(await signed(port, { method: 'PUT', digest }));
      assert.deepEqual(withBody, { caller, digest, covered: [...covered, 'content-digest'] });
    });

    test('signRequest() signs what fetch sends, and further fields', async () => {
      const { verify } = setup(port);
      const arrived = await signed(port, { method: 'get', url: 'HTTP://LOCALHOST:80/a/../b c?x y#z' });
      await verify({ ...arrived, method: 'GET', url: 'http://localhost/b%20c?x%20y' });
      const more = await signed(port, { url: '/a?b', headers: { 'Content-Type': 'text/plain' } });
      await refused(() => verify(more), 'signature_incomplete', /content-type/);
      more.headers.set('content-type', 'text/plain');
      await verify({ ...more, url: 'http://any.example/a?b' });
    });

    test('signRequest() refuses terms that no verifier would accept', async () => {
      const terms: Partial<SigningRequest>[] = [
        { keyid: '' },
        { keyid: 'é' },
        { keyid: 'x'.repeat(129) },
        { nonce: 'short' },
        { nonce: 'with space' },
        { created: 1.5 },
        { created: -1 },
        { created: Number.NaN },
        { digest: new Uint8Array(31) },
        { secret: new Uint8Array() },
      ];
      for (const term of terms) await assert.rejects(signed(port, term), RangeError);
    });

    test('createVerifier() accepts keyids and nonces with quotes, other spacing, any label, expires and tag', async () => {
      const { verify } = setup(port);
      await verify(await signed(port, { nonce: '"\\"\\"\\"\\' }));
      await verify(await written(port, `${COVERED}${TERMS};expires=${NOW};tag="blatam";alg="hmac-sha256"`));
      const other = await signed(port);
      const input = other.headers.get('signature-input')?.replace('sig=(', 'z.9=(  ').replaceAll(';', ';  ') ?? '';
      other.headers.set('signature-input', input);
      other.headers.set('signature', other.headers.get('signature')?.replace('sig', 'z.9') ?? '');
      await verify(other);
    });

    test('signature_missing: either field is absent', async () => {
      const { verify } = setup(port);
      for (const field of ['signature', 'signature-input']) {
        const request = await signed(port);
        request.headers.delete(field);
        await refused(() => verify(request), 'signature_missing', new RegExp(`no ${field} field`));
      }
      await refused(() => verify({ ...wanted, headers: new Headers(), hasBody: false }), 'signature_missing');
    });

    test('signature_malformed: signature-input that cannot be read', async () => {
      const { verify, state } = setup(port);
      const inputs = [
        '',
        '"x"',
        '1',
        COVERED.slice(0, -1),
        COVERED.slice(1),
        `${COVERED}${TERMS};`,
        `${COVERED}${TERMS},`,
        `${COVERED}${TERMS} x`,
        `${COVERED.replace('" "', '""')}${TERMS}`,
        `${COVERED.replace('" "', '"\t"')}${TERMS}`,
        `${COVERED.replaceAll('"', '')}${TERMS}`,
        `(:AAAA: 1)${TERMS}`,
        `("@method";req "@path" "@query")${TERMS}`,
        `("@method" "@path" "@query" "@query")${TERMS}`,
        `("@method" "@path" "@query" "@status")${TERMS}`,
        `("@method" "@path" "@query" "Date")${TERMS}`,
        `${COVERED}${TERMS};created=${NOW}`,
        `${COVERED}${TERMS};nonce="nonce-02"`,
        `${COVERED}${TERMS};other=1`,
        `${COVERED}${TERMS};Tag="x"`,
        `${COVERED}${TERMS.replace(`${NOW}`, `"${NOW}"`)}`,
        `${COVERED}${TERMS.replace(`${NOW}`, `${NOW}.5`)}`,
        `${COVERED}${TERMS.replace(`=${NOW}`, '')}`,
        `${COVERED}${TERMS.replace(`${NOW}`, `${NOW}000000`)}`,
        `${COVERED}${TERMS.replace('"admin"', 'admin')}`,
        `${COVERED}${TERMS.replace('"admin"', '7')}`,
        `${COVERED}${TERMS.replace('admin', '')}`,
        `${COVERED}${TERMS.replace('admin', 'x'.repeat(129))}`,
        `${COVERED}${TERMS.replace('admin', 'a\\d')}`,
        `${COVERED}${TERMS.replace('admin', 'é')}`,
        `${COVERED}${TERMS.replace('nonce-01', 'nonce-0')}`,
        `${COVERED}${TERMS.replace('nonce-01', 'x'.repeat(129))}`,
        `${COVERED}${TERMS.replace('nonce-01', 'nonce 01')}`,
        `${COVERED}${TERMS.replace('"nonce-01"', ':AAAA:')}`,
        `${COVERED}${TERMS};expires="1"`,
        `${COVERED}${TERMS};expires`,
        `${COVERED}${TERMS};tag=1`,
        `${COVERED}${TERMS};tag="${'x'.repeat(TEXT_LENGTH_MAX)}"`,
      ];
      for (const input of inputs) {
        const request = await written(port, input, { signature: `sig=:${toBase64(secret)}:` });
        await refused(() => verify(request), 'signature_malformed');
      }
      assert.equal(state.hmacs, 0);
    });

    test('signature_malformed: a signature that is not 32 bytes under the same label', async () => {
      const { verify } = setup(port);
      const good = `:${toBase64(secret)}:`;
      const fields = [
        '',
        'sig',
        'sig=',
        'sig=1',
        'sig="x"',
        'sig=::',
        'sig=:AAAA:',
        `sig=${good.slice(0, -1)}`,
        `sig=(${good})`,
      ];
      const others = [
        `sig2=${good}`,
        `sig=${good}, sig=${good}`,
        `sig=${good.replace('=', '')}`,
        `sig=${good.replace(':', ': ')}`,
        `sig=:${toBase64(new Uint8Array(33))}:`,
      ];
      for (const signature of [...fields, ...others]) {
        const request = await written(port, COVERED + TERMS, { signature });
        await refused(() => verify(request), 'signature_malformed');
      }
    });

    test('signature_malformed: two signatures, in either field or in both', async () => {
      const { verify } = setup(port);
      for (const fields of [['signature'], ['signature-input'], ['signature', 'signature-input']]) {
        const request = await signed(port);
        for (const field of fields)
          request.headers.append(field, request.headers.get(field)?.replace('sig', 'two') ?? '');
        await refused(() => verify(request), 'signature_malformed', /one signature/);
      }
    });

    test('signature_malformed: any other algorithm', async () => {
      const { verify } = setup(port);
      for (const alg of ['"hmac-sha512"', '"none"', '""', '"HMAC-SHA256"', '1'])
        await refused(
          async () => verify(await written(port, `${COVERED}${TERMS};alg=${alg}`)),
          'signature_malformed',
          /alg/,
        );
    });

    test('signature_incomplete: names each component and parameter that is missing', async () => {
      const { verify } = setup(port);
      for (const component of ['@method', '@path', '@query']) {
        const covered = COVERED.replace(new RegExp(` ?"${component}" ?`), ' ').replace('( ', '(');
        const request = await written(port, covered + TERMS);
        await assert.rejects(verify(request), { code: 'signature_incomplete', extra: { missing: [component] } });
      }
      for (const param of ['created', 'keyid', 'nonce']) {
        const request = await written(port, COVERED + TERMS.replace(new RegExp(`;${param}=[^;]*`), ''));
        await assert.rejects(verify(request), { code: 'signature_incomplete', extra: { missing: [param] } });
      }
      await refused(
        async () => verify(await written(port, '()')),
        'signature_incomplete',
        /@method, @path, @query, created, keyid, nonce/,
      );
    });

    test('signature_incomplete: a body without a digest, a digest not covered, a covered field not there', async () => {
      const { verify } = setup(port);
      const bare = await signed(port);
      await refused(() => verify({ ...bare, hasBody: true }), 'signature_incomplete', /content-digest/);
      bare.headers.set('content-digest', contentDigest(secret));
      await refused(() => verify({ ...bare, hasBody: true }), 'signature_incomplete', /content-digest/);
      await refused(() => verify(bare), 'signature_incomplete', /content-digest/);
      const gone = await signed(port, { method: 'PUT', digest: secret });
      gone.headers.delete('content-digest');
      await refused(() => verify(gone), 'signature_incomplete', /content-digest/);
    });

    test('digest_malformed: the covered digest holds no sha-256', async () => {
      const { verify, state } = setup(port);
      for (const field of ['sha-512=:AAAA:', 'sha-256=:AAAA:', 'junk junk', '']) {
        const covered = COVERED.replace(')', ' "content-digest")');
        await refused(
          async () => verify(await written(port, covered + TERMS, { 'content-digest': field })),
          'digest_malformed',
        );
      }
      assert.equal(state.hmacs, 0);
    });

    test('signature_stale: from 300 s of age and 30 s ahead, with both clocks', async () => {
      const { verify, state } = setup(port);
      const at = async (offsetMs: number) => {
        state.nowMs = NOW * 1000 + offsetMs;
        return verify(await signed(port));
      };
      await at(300_000);
      await at(-30_000);
      const late = /created at 1800000000 .* ours it is 1800000300, 301 s later; at most 300 s/;
      await refused(() => at(300_001), 'signature_stale', late);
      const early = /created at 1800000000 .* ours it is 1799999969, 31 s earlier; at most 30 s/;
      await refused(() => at(-31_000), 'signature_stale', early);
      await refused(() => at(-30_001), 'signature_stale');
      await assert.rejects(at(400_000), { extra: { created: NOW, now: NOW + 400 } });
      state.nowMs = NOW * 1000 + 10_001;
      await refused(
        async () => verify(await written(port, `${COVERED}${TERMS};expires=${NOW + 10}`)),
        'signature_stale',
        /expired/,
      );
    });

    test('signature_invalid for an unknown key: refused like a wrong one, for the same HMAC', async () => {
      const { verify, state } = setup(port);
      const request = await signed(port, { keyid: 'who' });
      await refused(() => verify(request), 'signature_invalid');
      assert.equal(state.hmacs, 1);
      const forged = await signed(port, { keyid: 'who', secret: new Uint8Array(32) });
      await refused(() => verify(forged), 'signature_invalid');
    });

    test('a rotated key has two secrets until the overlap ends, and none once it has expired', async () => {
      let at = NOW * 1000;
      const previous = { secret: Uint8Array.of(1, 2, 3), until: at + 5000 };
      const rotated = { ...key, previous, expiresAt: at + 20_000 };
      const now = () => at;
      const verify = createVerifier({ crypto: port, keyOf: () => rotated, nonces: memoryNonces({ now }), now });
      const by = async (secret: Uint8Array) => verify(await signed(port, { secret }));
      const { caller } = await by(previous.secret);
      assert.deepEqual(Object.keys(caller).sort(), ['expiresAt', 'keyid', 'scopes', 'tenant']);
      await by(secret);
      at += 5000;
      await refused(() => by(previous.secret), 'signature_invalid');
      await by(secret);
      at += 15_000;
      await refused(() => by(secret), 'signature_invalid');
    });

    test('signature_invalid: another secret, method, path, query, term, field or signature', async () => {
      const { verify } = setup(port);
      const digest = await port.sha256(text('body'));
      const sign = () => signed(port, { method: 'PUT', digest });
      const tampered = async (change: (request: Arrived) => Partial<Received> | undefined) => {
        const request = await sign();
        return refused(() => verify({ ...request, ...change(request) }), 'signature_invalid');
      };
      const edit = (field: string, from: string | RegExp, to: string) => (request: Arrived) => {
        const value = request.headers.get(field) ?? '';
        assert.notEqual(value.replace(from, to), value);
        request.headers.set(field, value.replace(from, to));
        return undefined;
      };
      await tampered(() => ({ method: 'POST' }));
      await tampered(() => ({ method: 'put' }));
      await tampered(({ url }) => ({ url: url.replace('/a/b', '/a/c') }));
      await tampered(({ url }) => ({ url: url.replace('ttl=5', 'ttl=50') }));
      await tampered(({ url }) => ({ url: url.replace(/\?.*/, '') }));
      await tampered(edit('content-digest', /=:.*:/, `=:${toBase64(secret)}:`));
      await tampered(edit('signature-input', `${NOW}`, `${NOW + 1}`));
      await tampered(edit('signature-input', /nonce="./, 'nonce="x'));
      await tampered(edit('signature-input', '"@method" "@path"', '"@path" "@method"'));
      await tampered(edit('signature', /=:.*:/, `=:${toBase64(secret)}:`));
      await refused(async () => verify(await signed(port, { secret: secret.slice(1) })), 'signature_invalid');
    });

    test('signature_replayed: the same request again, also spaced anew, also under another created', async () => {
      const { verify, state } = setup(port);
      const request = await signed(port, { nonce: 'nonce-01' });
      await verify(request);
      await refused(() => verify(request), 'signature_replayed');
      request.headers.set('signature-input', request.headers.get('signature-input')?.replaceAll(';', '; ') ?? '');
      await refused(() => verify(request), 'signature_replayed');
      state.nowMs += 300_000;
      await refused(() => verify(request), 'signature_replayed');
      await refused(
        async () => verify(await signed(port, { nonce: 'nonce-01', created: NOW + 300 })),
        'signature_replayed',
      );
    });

    test('a refused request does not burn its nonce', async () => {
      const { verify, state } = setup(port);
      const request = await signed(port, { nonce: 'nonce-01' });
      await refused(() => verify({ ...request, method: 'POST' }), 'signature_invalid');
      await refused(() => verify({ ...request, hasBody: true }), 'signature_incomplete');
      state.nowMs += 400_000;
      await refused(() => verify(request), 'signature_stale');
      state.nowMs -= 400_000;
      await refused(
        async () => verify(await signed(port, { nonce: 'nonce-01', secret: text('guess') })),
        'signature_invalid',
      );
      await verify(request);
    });

    test('of many copies at once one is accepted', async () => {
      const { verify } = setup(port);
      const request = await signed(port);
      const outcomes = await Promise.allSettled(Array.from({ length: 20 }, () => verify(request)));
      assert.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
    });
  });
}
