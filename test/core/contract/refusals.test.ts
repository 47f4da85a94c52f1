// Lines about refusals: what they say, and that no flood makes many of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  createRefusals,
  isNoted,
  LINES_MAX,
  type Refusal,
  type RefusalLine,
  refusalLinesSchema,
} from '../../../core/contract/refusals.ts';

const refusal: Refusal = {
  ...{
    status: 401,
    code: 'signature_invalid',
    method: 'GET',
    path: '/v1/tensors/a',
    requestId: 'r1',
    address: '10.0.0.1',
  },
};

function setup() {
  const state = { now: 1_800_000_000_000, lines: [] as RefusalLine[], writes: 0, told: [] as string[], fails: false };
  const refusals = createRefusals({
    now: () => state.now,
    log: (line) => state.told.push(line),
    write: async (lines) => {
      if (state.fails) throw new Error('away');
      state.writes += 1;
      state.lines.push(...refusalLinesSchema.parse(lines));
    },
  });
  return { state, ...refusals };
}

test('the first is written at once, those that follow in one line with their count', async () => {
  const { state, note, flush } = setup();
  await note(refusal);
  assert.equal(state.lines.length, 1);
  for (let i = 0; i < 500; i++) assert.equal(note({ ...refusal, requestId: `r${i + 2}` }), undefined);
  note({ ...refusal, code: 'scope_missing', status: 403, caller: { keyid: 'k', tenant: 't' } });
  assert.equal(state.writes, 1);
  await flush();
  const [first, known, many] = state.lines;
  assert.deepEqual(first, {
    ...{ tenant: null, actor: 'unknown', subject: 'GET /v1/tensors/a' },
    detail: {
      ...{ code: 'signature_invalid', status: 401, count: 1, requestId: 'r1', address: '10.0.0.1' },
      since: new Date(state.now).toISOString(),
    },
  });
  assert.deepEqual([known?.tenant, known?.actor, known?.detail.count], ['t', 'k', 1]);
  assert.deepEqual([many?.detail.count, many?.detail.requestId], [500, 'r2']);
});

test('a flood of a day writes few lines, counts all, and hides nobody who is known', async () => {
  const { state, note, flush } = setup();
  const DAY = 86_400_000;
  const step = 500;
  let count = 0;
  for (let at = 0; at < DAY; at += step) {
    state.now += step;
    count += 1;
    await note({ ...refusal, address: `10.0.${count % 256}.${count % 251}` });
  }
  note({ ...refusal, code: 'scope_missing', caller: { keyid: 'k', tenant: 't' } });
  await flush();
  assert.ok(state.lines.length < 5000, `${state.lines.length} lines`);
  assert.ok(state.lines.some(({ actor }) => actor === 'k'));
  const told = state.lines.reduce((sum, { detail: { count = 0, others = {} } }) => {
    return sum + Number(count) + Object.values(others as object).reduce((all, each) => all + each, 0);
  }, 0);
  assert.equal(told, count + 1);
  assert.ok(state.lines.length < LINES_MAX * 500);
});

test('what cannot be written is told, and the next is written again', async () => {
  const { state, note } = setup();
  state.fails = true;
  await note(refusal);
  assert.match(state.told[0] ?? '', /^1 lines about refusals are not in the audit log: away$/);
  state.fails = false;
  state.now += 60_000;
  await note(refusal);
  assert.equal(state.lines.length, 1);
});

test('no caller writes lines of the log, or long ones', async () => {
  const { state, note } = setup();
  await note({ ...refusal, path: `/v1/\n\u202e${'x'.repeat(5000)}` });
  const { subject = '' } = state.lines[0] ?? {};
  assert.match(subject, /^GET \/v1\/\?\?x+$/);
  assert.equal(subject.length, 200);
  assert.deepEqual([401, 403, 429, 404, 422, 200, 500].filter(isNoted), [401, 403, 429]);
});
