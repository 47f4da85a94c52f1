// An edge before two cores, all real processes: one core is killed under load, comes back, drains; deadlines; events that are cut.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, beforeEach, test } from 'node:test';
import { adminKey, call, codeOf, ROOT, signed, startBlatam } from '../support/blatam.ts';
import { type RunningEdge, startEdgeOn } from '../support/runtimes.ts';
import { until } from '../support/until.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
const TENANTS = 40;

interface SmallCore {
  readonly name: string;
  readonly child: ChildProcess;
  readonly port: number;
}

async function startCore(name: string, port = 0): Promise<SmallCore> {
  const child = spawn(process.execPath, [`${ROOT}test/support/small-core.ts`], {
    env: { ...process.env, INTERNAL_SECRET, NAME: name, PORT: String(port) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { name, child, port: Number(line) };
}

async function kill({ child }: SmallCore): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGKILL');
  await once(child, 'exit');
}

let cores: [SmallCore, SmallCore];
/** Whose tenants are refused while their core is away, and whose are not. */
let refuses: RunningEdge;
let goesOn: RunningEdge;

before(async () => {
  cores = [await startCore('a'), await startCore('b')];
  const CORE_URLS = cores.map(({ port }) => `http://127.0.0.1:${port}`).join();
  refuses = await startEdgeOn('node', { INTERNAL_SECRET, CORE_URLS });
  goesOn = await startEdgeOn('node', { INTERNAL_SECRET, CORE_URLS, CORE_AWAY: 'next' });
});
after(async () => {
  for (const edge of [refuses, goesOn]) await edge?.stop();
  for (const core of cores ?? []) await kill(core);
});

interface Told {
  readonly core: string;
  readonly deadline?: string;
  readonly left: number;
  readonly traceparent?: string;
  readonly tracestate?: string;
}

const keyOf = (tenant: number) => ({ keyid: `k${tenant}`, secret: INTERNAL_SECRET });
const ask = (edge: RunningEdge, tenant: number, query = '', headers: Record<string, string> = {}) =>
  call(keyOf(tenant), 'GET', `${edge.url}/v1/tensors/x${query}`, { headers });
/** The core that answers, or why none does. */
async function whoAnswers(edge: RunningEdge, tenant: number, query = ''): Promise<string> {
  const answer = await ask(edge, tenant, query);
  return answer.ok ? ((await answer.json()) as Told).core : `${answer.status} ${await codeOf(answer)}`;
}
const tenants = Array.from({ length: TENANTS }, (_, i) => i);
const owners = (edge: RunningEdge) => Promise.all(tenants.map((tenant) => whoAnswers(edge, tenant)));

/** Asked until it is so: what an edge knows of its cores is up to seconds old. */
async function untilOwners(edge: RunningEdge, what: string, isSo: (found: string[]) => boolean): Promise<void> {
  let found: string[] = [];
  for (const end = performance.now() + 60_000; performance.now() < end; ) {
    found = await owners(edge);
    if (isSo(found)) return;
  }
  assert.fail(`${what}: ${found}`);
}

let homes: string[] = [];
beforeEach(async () => {
  if (cores[0].child.signalCode) cores[0] = await startCore('a', cores[0].port);
  if (homes.length === 0) homes = await owners(refuses);
  for (const edge of [refuses, goesOn])
    await untilOwners(edge, 'all are at home', (found) => found.join() === homes.join());
});

test('tenants are on both cores, and at every edge on the same', async () => {
  for (const name of ['a', 'b']) assert.ok(homes.filter((each) => each === name).length > TENANTS / 8, `${homes}`);
  assert.deepEqual(await owners(goesOn), homes);
});

test('a core that is killed under load takes with it only what was on its way there; its tenants are served by the other', async () => {
  const stuck = tenants.map((tenant) => whoAnswers(goesOn, tenant, '?stuck=a'));
  let isOver = false;
  const load = tenants.map(async (tenant) => {
    const found: string[] = [];
    while (!isOver) found.push(await whoAnswers(goesOn, tenant));
    return found;
  });
  await owners(goesOn);
  await kill(cores[0]);
  const ended = await Promise.all(stuck);
  await untilOwners(goesOn, 'all are served', (found) => found.every((each) => each === 'b'));
  isOver = true;
  const refused = (found: readonly string[]) => found.filter((each) => each.length > 1);
  for (const [tenant, found] of (await Promise.all(load)).entries()) {
    const at = homes[tenant];
    // What was on its way is asked of the other core as far as a fifth of all requests goes; the rest of that is refused.
    assert.ok(refused(found).length <= (at === 'a' ? 2 : 0), `${tenant} at ${at}: ${refused(found)}`);
    assert.ok(at === 'a' || ended[tenant] === 'b', ended[tenant]);
  }
  const again = ended.filter((each, tenant) => homes[tenant] === 'a' && each === 'b');
  assert.ok(again.length > 0, 'some were asked again');
});

test('with CORE_AWAY=refuse the tenants of a core that is away are refused, and no others', async () => {
  await kill(cores[0]);
  const found = await owners(refuses);
  for (const [tenant, each] of found.entries())
    assert.equal(each, homes[tenant] === 'a' ? '502 core_unreachable' : 'b');
  assert.equal((await fetch(`${refuses.url}/readyz`)).status, 200, 'one core is ready');
});

test('a core that drains is given nothing new where another may', async () => {
  cores[0].child.kill('SIGUSR2');
  await untilOwners(goesOn, 'all are served by b', (found) => found.every((each) => each === 'b'));
  assert.deepEqual(await owners(refuses), homes, 'it still answers for its own');
  cores[0].child.kill('SIGUSR2');
});

test('a deadline is told to the core; when it is over the caller is answered 504, and the core sees that nobody waits', async () => {
  const told = (await (await ask(refuses, 1, '', { 'x-deadline-ms': '60000' })).json()) as Told;
  assert.equal(told.deadline, '60000');
  const answer = await ask(refuses, 1, '?wait=600000', { 'x-deadline-ms': '200' });
  assert.deepEqual([answer.status, await codeOf(answer)], [504, 'deadline_exceeded']);
  for (let { left } = told; left <= told.left; ) ({ left } = (await (await ask(refuses, 1)).json()) as Told);
  const malformed = await ask(refuses, 1, '', { 'x-deadline-ms': 'soon' });
  assert.equal(malformed.status, 422);
});

test('the core is told whose trace a request is part of, under a span of the edge, and what fails is logged with it', async () => {
  const traceId = randomBytes(16).toString('hex');
  const span = '00f067aa0ba902b7';
  const headers = { traceparent: `00-${traceId}-${span}-01`, tracestate: 'a=1' };
  // one that is passed on, and one that hot keys would bring
  for (const query of ['', '?limit=1']) {
    const told = (await (await ask(refuses, 1, query, headers)).json()) as Told;
    assert.match(told.traceparent ?? '', new RegExp(`^00-${traceId}-(?!${span})[0-9a-f]{16}-01$`));
    assert.equal(told.tracestate, 'a=1');
  }
  const begun = (await (await ask(refuses, 1, '', { traceparent: 'junk', tracestate: 'a=1' })).json()) as Told;
  assert.match(begun.traceparent ?? '', /^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  assert.equal(begun.tracestate, undefined);
  assert.equal((await ask(refuses, 1, '?wait=600000', { ...headers, 'x-deadline-ms': '200' })).status, 504);
  await until(() => refuses.output().includes(`trace ${traceId} GET`), 'the log names the trace');
});

test('events whose core is killed end in an event that says so, after the last whole one', async () => {
  const url = `${refuses.url}/v1/kv/events?events`;
  const tenant = homes.indexOf('a');
  const answer = await fetch(url, { headers: await signed(keyOf(tenant), 'GET', url) });
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader() ?? assert.fail('no body');
  assert.deepEqual(await reader.read(), { done: false, value: 'id: 1\n\n' });
  await kill(cores[0]);
  let text = '';
  for (let read = await reader.read(); !read.done; read = await reader.read()) text += read.value;
  assert.match(text, /^event: error\ndata: \{.*"code":"core_unreachable".*\}\n\n$/);
});

test('a core cuts what it is told takes too long', async () => {
  const core = await startBlatam({});
  try {
    const key = adminKey(core.dataDir);
    const body = new TextEncoder().encode(JSON.stringify({ key: 'x', ttlMs: 600_000, waitMs: 60_000 }));
    const headers = { 'content-type': 'application/json' };
    const url = `${core.core}/v1/tensors:claim`;
    assert.equal((await call(key, 'POST', url, { body, headers })).status, 200);
    await assert.rejects(call(key, 'POST', url, { body, headers: { ...headers, 'x-deadline-ms': '100' } }));
    const metrics = await (await fetch(`${core.core}/metrics`)).text();
    assert.match(metrics, /^blatam_claims_waiting 0$/m);
  } finally {
    await core.stop();
  }
});
