// Trace context: what is well formed comes back as it was, what is not begins a new trace, and nothing that is sent makes it throw.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  boundTracestate,
  parseTraceparent,
  traceFields,
  traceOf,
  traceparentOf,
} from '../../../core/contract/trace.ts';
import { seeded } from '../../support/seeded.ts';

const { seed } = seeded();
const UUID = '0f8fad5b-d9cb-469f-a165-70867728950e';
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

const hex = (digits: number) =>
  fc
    .array(fc.integer({ min: 0, max: 15 }), { minLength: digits, maxLength: digits })
    .map((each) => each.map((n) => n.toString(16)).join(''))
    .filter((text) => !/^0+$/.test(text));
const parents = fc.record({ traceId: hex(32), spanId: hex(16), sampled: fc.boolean() }, { noNullPrototype: true });

test('parseTraceparent reads what traceparentOf wrote', () => {
  fc.assert(
    fc.property(parents, (parent) => assert.deepEqual(parseTraceparent(traceparentOf(parent)), parent)),
    { seed },
  );
});

test('parseTraceparent refuses junk, and a field in which one character is another', () => {
  const HEX = /^[0-9a-f]$/;
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 80 }), (text) =>
      assert.equal(parseTraceparent(text), undefined),
    ),
    { seed },
  );
  fc.assert(
    fc.property(parents, fc.nat(54), fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }), (parent, at, other) => {
      const text = traceparentOf(parent);
      fc.pre(!HEX.test(other) && text[at] !== other);
      assert.equal(parseTraceparent(text.slice(0, at) + other + text.slice(at + 1)), undefined);
    }),
    { seed },
  );
});

for (const [name, field, expected] of [
  ['sampled', `00-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`],
  ['flags that version 00 does not know', `00-${TRACE}-${SPAN}-fe`, `00-${TRACE}-${SPAN}-00`],
  ['a later version', `cc-${TRACE}-${SPAN}-01`, `00-${TRACE}-${SPAN}-01`],
  ['a later version with more', `cc-${TRACE}-${SPAN}-01-what-comes`, `00-${TRACE}-${SPAN}-01`],
  ['a later version with more that is not set off', `cc-${TRACE}-${SPAN}-01.what`, undefined],
  ['version 00 with more', `00-${TRACE}-${SPAN}-01-what`, undefined],
  ['version ff', `ff-${TRACE}-${SPAN}-01`, undefined],
  ['a trace of zeros', `00-${'0'.repeat(32)}-${SPAN}-01`, undefined],
  ['a span of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
  ['capitals', `00-${TRACE.toUpperCase()}-${SPAN}-01`, undefined],
  ['two of them', `00-${TRACE}-${SPAN}-01, 00-${TRACE}-${SPAN}-01`, undefined],
  ['spaces', ` 00-${TRACE}-${SPAN}-01`, undefined],
  ['the end of a line', `00-${TRACE}-${SPAN}-01\n`, undefined],
  ['nothing', '', undefined],
] as const)
  test(`parseTraceparent: ${name}`, () => {
    const parent = parseTraceparent(field);
    assert.equal(parent && traceparentOf(parent), expected);
  });

test('traceOf goes on with a trace under a new span, and begins one where none is well formed, without its tracestate', () => {
  const came = new Headers({ traceparent: `00-${TRACE}-${SPAN}-01`, tracestate: 'a=1, b=2' });
  assert.deepEqual(traceFields(traceOf(came, UUID)), {
    traceparent: `00-${TRACE}-a16570867728950e-01`,
    tracestate: 'a=1,b=2',
  });
  const begun = { traceparent: '00-0f8fad5bd9cb469fa16570867728950e-a16570867728950e-00' };
  assert.deepEqual(traceFields(traceOf(new Headers(), UUID)), begun);
  const malformed = new Headers({ traceparent: `00-${TRACE}-${'0'.repeat(16)}-01`, tracestate: 'a=1' });
  assert.deepEqual(traceFields(traceOf(malformed, UUID)), begun);
});

const entry = (name: string, chars: number) => `${name}=${'v'.repeat(chars - name.length - 1)}`;
for (const [name, field, expected] of [
  ['spaces and empty entries', ' a=1 ,, \tb@c=2\t', 'a=1,b@c=2'],
  [
    'long entries go first',
    [entry('a', 100), entry('b', 200), ...Array.from('cde', (n) => entry(n, 100))].join(),
    Array.from('acde', (n) => entry(n, 100)).join(),
  ],
  [
    'then the last',
    Array.from('abcdef', (n) => entry(n, 100)).join(),
    Array.from('abcde', (n) => entry(n, 100)).join(),
  ],
  ['a name twice', 'a=1,a=2', undefined],
  ['no value', 'a=', undefined],
  ['no name', '=1', undefined],
  ['capitals', 'A=1', undefined],
  ['other characters', 'a=\u00e9', undefined],
  ['33 entries', Array.from({ length: 33 }, (_, i) => `a${i}=1`).join(), undefined],
  ['empty', '', undefined],
  ['more than is read', entry('a', 9000), undefined],
] as const)
  test(`boundTracestate: ${name}`, () => assert.equal(boundTracestate(field), expected));

test('boundTracestate answers at most 512 characters, and what it has answered it lets pass', () => {
  const names = fc.stringMatching(/^[a-z][a-z0-9_*/-]{0,20}$/);
  const values = fc.stringMatching(/^[!-+.-<>-~]{1,200}$/);
  const entries = fc.uniqueArray(fc.tuple(names, values), { maxLength: 32, selector: ([name]) => name });
  fc.assert(
    fc.property(entries, (each) => {
      const bound = boundTracestate(each.map(([name, value]) => `${name}=${value}`).join(','));
      if (each.length === 0) return assert.equal(bound, undefined);
      assert.ok(bound !== undefined && bound.length <= 512);
      assert.equal(boundTracestate(bound), bound);
    }),
    { seed },
  );
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 2000 }), (text) => {
      assert.ok((boundTracestate(text)?.length ?? 0) <= 512);
    }),
    { seed },
  );
});
