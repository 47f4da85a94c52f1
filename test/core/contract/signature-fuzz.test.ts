// Signed requests, changed on the way in every manner that somebody may think of: none that says something else than what was
// signed passes, and none is our fault (a 5xx). What passes says the same: another spacing, say. FUZZ_ROUNDS sets the length.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nodeCrypto } from '../../../core/contract/crypto-node.ts';
import { Problem } from '../../../core/contract/problems.ts';
import { createVerifier, type Key, signRequest } from '../../../core/contract/signatures.ts';
import { seeded } from '../../support/seeded.ts';

const ROUNDS = Number(process.env.FUZZ_ROUNDS ?? 100_000);
const random = seeded();
const created = 1_800_000_000;
const secret = random.bytes(32);
const key: Key = { keyid: 'admin', tenant: 'home', scopes: [], secret };
const DIGEST = random.bytes(32);
/** Not covered: whoever routes a request has it from the connection. */
const ORIGIN = 'http://127.0.0.1:8000/';

interface Arrived {
  method: string;
  url: string;
  hasBody: boolean;
  fields: Map<string, string>;
}

const FIELDS = ['signature-input', 'signature', 'content-digest', 'content-type'] as const;
const STRANGE = [
  '"',
  ';',
  ',',
  '=',
  '(',
  ')',
  ':',
  ' ',
  '\t',
  '\\',
  '\n',
  '\r',
  '\0',
  'é',
  '\u202e',
  '\ud800',
  '😀',
  '%2f',
  '/../',
  'A',
];
const COMPONENTS = [
  '"@method"',
  '"@path"',
  '"@query"',
  '"content-digest"',
  '"@authority"',
  '"@query";req',
  '"host"',
  '"a"',
];
const PARAMS = [
  'created=1800000001',
  'keyid="other"',
  'nonce="00000000"',
  'alg="none"',
  'expires=1',
  'tag="x"',
  'created=1800000000.0',
  'keyid=admin',
];

const at = (text: string): number => random.below(text.length + 1);
const edited = (text: string): string => {
  const from = at(text);
  switch (random.below(6)) {
    case 0:
      return text.slice(0, from) + random.pick(STRANGE as [string]) + text.slice(from);
    case 1:
      return text.slice(0, from) + text.slice(from + 1 + random.below(8));
    case 2:
      return text.slice(0, from) + String.fromCharCode(random.below(0x300)) + text.slice(from + 1);
    case 3:
      return `${text}, ${text}`;
    case 4:
      return text.slice(0, from) + 'x'.repeat(1 + random.below(20_000)) + text.slice(from);
    default:
      return text.slice(0, from) + text.slice(from).toUpperCase();
  }
};

/** The list of components in another order, with one more, one less, or one twice. */
function otherComponents(input: string): string {
  return input.replace(/\(([^)]*)\)/, (_, list: string) => {
    const components = list.split(' ');
    const [i, j] = [random.below(components.length), random.below(components.length)];
    const change = random.below(4);
    if (change === 0) [components[i], components[j]] = [components[j] ?? '', components[i] ?? ''];
    if (change === 1) components.splice(i, 0, random.pick(COMPONENTS as [string]));
    if (change === 2) components.splice(i, 1);
    if (change === 3) components.splice(i, 0, components[j] ?? '');
    return `(${components.join(' ')})`;
  });
}

const MANNERS: readonly ((request: Arrived) => void)[] = [
  (request) => {
    request.method = random.pick(['GET', 'PUT', 'DELETE', 'put', 'PUT ', 'P\nUT', '']);
  },
  (request) => {
    request.url = ORIGIN + edited(request.url.slice(ORIGIN.length));
  },
  (request) => {
    const name = random.pick(FIELDS as unknown as [string]);
    request.fields.set(name, edited(request.fields.get(name) ?? ''));
  },
  (request) => {
    request.fields.delete(random.pick(FIELDS as unknown as [string]));
  },
  (request) => {
    request.fields.set('signature-input', otherComponents(request.fields.get('signature-input') ?? ''));
  },
  (request) => {
    const input = request.fields.get('signature-input') ?? '';
    const more = random.pick(PARAMS as [string]);
    const name = more.split('=', 1)[0];
    const isReplaced = random.below(2) === 0;
    request.fields.set(
      'signature-input',
      isReplaced ? input.replace(new RegExp(`${name}=[^;]*`), more) : `${input};${more}`,
    );
  },
  (request) => {
    for (const name of ['signature-input', 'signature'])
      if (random.below(3) > 0)
        request.fields.set(
          name,
          (request.fields.get(name) ?? '').replace(/^sig/, random.pick(['s', 'sig1', 'SIG', 'sïg', ''])),
        );
  },
  (request) => {
    const [label, copy] = [random.pick(['sig', 'b']), random.pick(['signature-input', 'signature'])];
    const value = request.fields.get(copy) ?? '';
    request.fields.set(copy, `${value}, ${value.replace(/^sig/, label)}`);
  },
  (request) => {
    request.hasBody = !request.hasBody;
  },
];

test(`of ${ROUNDS} changed requests none passes that says something else, seed ${random.seed}`, async () => {
  const url = `${ORIGIN}v1/tensors/a/b?codec=raw&ttl=5`;
  const signed = await signRequest(
    { method: 'PUT', url, keyid: key.keyid, secret, created, digest: DIGEST, headers: { 'content-type': 'a/b' } },
    nodeCrypto,
  );
  const verify = createVerifier({
    crypto: nodeCrypto,
    keyOf: (keyid) => (keyid === key.keyid ? key : undefined),
    nonces: { firstSeen: () => true },
    now: () => created * 1000,
  });
  const as = ({ fields, ...request }: Arrived) => ({
    ...request,
    headers: { get: (name: string) => fields.get(name) ?? null },
  });
  const fresh = (): Arrived => {
    return { method: 'PUT', url, hasBody: true, fields: new Map(Object.entries({ ...signed, 'content-type': 'a/b' })) };
  };
  assert.deepEqual((await verify(as(fresh()))).digest, DIGEST, 'unchanged it passes');
  let passed = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const request = fresh();
    for (let changes = 1 + random.below(3); changes > 0; changes--)
      random.pick(MANNERS as [(typeof MANNERS)[number]])(request);
    const what = () => `round ${round}: ${JSON.stringify({ ...request, fields: [...request.fields] }).slice(0, 2000)}`;
    try {
      const { digest, caller } = await verify(as(request));
      passed += 1;
      assert.deepEqual(
        [caller.keyid, digest, request.method, request.url.split('#', 1)[0]],
        [key.keyid, DIGEST, 'PUT', url],
        what(),
      );
    } catch (thrown) {
      if (!(thrown instanceof Problem)) throw new Error(what(), { cause: thrown });
      assert.ok(thrown.status >= 400 && thrown.status < 500, `${thrown.code}, ${what()}`);
    }
  }
  assert.ok(passed < ROUNDS / 5, `${passed} passed`);
});
