// What the edge's chain costs: a signed GET of 1 KiB that it answers by itself, one that goes on to the core beside it, and the
// hello of a bare Hono app on the same runtime. Several connections, one request at a time on each; requests are signed before
// the clock runs, each with a nonce of its own, and sent by the same raw client. Rivals take turns within each round.
// `x hello` compares answers a second. Where the client is slower than a server that ratio is too kind: so CPU time of each
// server's process is told too, all its threads. What is read is compared with what was put, before and after.
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { joinParts, tensorParts } from '../core/contract/tensors.ts';
import { type Blatam, openBlatamClient, type SignedRequest, startBlatam } from './lib/blatam.ts';
import { startChild } from './lib/child.ts';
import { type HttpHead, httpDialect, requestHead } from './lib/http.ts';
import { atLeast, atMost, type Report, type RunOptions, WrongAnswer } from './lib/report.ts';
import { takeTurns } from './lib/rounds.ts';
import { median, percentile } from './lib/statistics.ts';
import { openWire, type Wire } from './lib/wire.ts';

export const title = 'a signed GET of 1 KiB answered by the edge, beside a bare Hono hello';

const HELLO = fileURLToPath(new URL('lib/hello-child.ts', import.meta.url));
const TENSOR_BYTES = 1024;
const CONNECTIONS = 16;
const REQUESTS = 4000;
const HELLO_OF_RATE_MIN = 0.5;
const CPU_US_MAX = 60;
/** As many as are signed here come from one key. */
const UNLIMITED = { EDGE_LIMIT_KEY: 'none', EDGE_LIMIT_ADDRESS: 'none' };

interface Server {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
  /** So many requests, signed where it wants them to be. */
  readonly requests: (count: number) => Promise<readonly SignedRequest[]>;
}

export async function run({ quick, log }: RunOptions): Promise<Report> {
  await using opened = new AsyncDisposableStack();
  const hello = await startChild({
    ...{ name: 'hello', command: process.execPath, words: () => [HELLO], environment: () => process.env },
    ready: /listens on/,
  });
  opened.defer(hello.close);
  const file = joinParts(
    tensorParts([{ name: 'x', dtype: 'U8', shape: [TENSOR_BYTES], data: new Uint8Array(TENSOR_BYTES).fill(7) }]),
  );
  const hot = await startBlatam({ env: UNLIMITED });
  opened.defer(hot.close);
  const through = await startBlatam({ env: { ...UNLIMITED, EDGE_HOT_MIB: '0' } });
  opened.defer(through.close);
  const helloPort = Number(/listens on (\d+)/.exec(hello.output)?.[1]);
  const plain = { parts: [requestHead('GET', '/', { host: `127.0.0.1:${helloPort}` })] };
  const servers: Server[] = [
    { name: 'hello', port: helloPort, pid: hello.pid, requests: async (count) => Array(count).fill(plain) },
    await serverOf('hot key', hot, file),
    await serverOf('through the core', through, file),
  ];
  const latencies = new Map<string, number[]>();
  const wires = new Map<string, Wire<HttpHead>[]>();
  for (const { name, port } of servers) {
    wires.set(name, await Promise.all(Array.from({ length: CONNECTIONS }, () => openWire(port, httpDialect))));
    opened.defer(() => wires.get(name)?.forEach((wire) => void wire.close()));
  }
  const rounds = quick ? 3 : 10;
  log(`${rounds} rounds of ${REQUESTS} requests over ${CONNECTIONS} connections …`);
  const measured = await takeTurns({
    rounds,
    begin: async () =>
      new Map(await Promise.all(servers.map(async (s) => [s.name, await s.requests(REQUESTS)] as const))),
    rivals: servers.map(({ name, pid }) => ({
      ...{ name, pids: [pid] },
      run: async (signed: ReadonlyMap<string, readonly SignedRequest[]>) => {
        const { ms, each } = await sendAll(wires.get(name) ?? [], signed.get(name) ?? []);
        latencies.set(name, each); // of the last round
        return ms;
      },
    })),
  });
  for (const blatam of [hot, through]) await assertHolds(blatam, file);
  const rows = measured.map(({ name, ms, cpuMs }) => {
    const each = latencies.get(name) ?? [];
    const cpu = cpuMs[0] === null || cpuMs[0] === undefined ? null : (1000 * cpuMs[0]) / (rounds * REQUESTS);
    return { name, rate: (1000 * REQUESTS) / median(ms), p50: median(each), p99: percentile(each, 0.99), cpu };
  });
  const of = (name: string) => rows.find((row) => row.name === name);
  const bare = of('hello');
  const hit = of('hot key');
  return {
    tables: [
      {
        title: `GET of 1 KiB, ${CONNECTIONS} connections`,
        columns: [
          { name: 'rate', unit: '1/s' },
          { name: 'x hello', unit: '' },
          { name: 'p50', unit: 'ms' },
          { name: 'p99', unit: 'ms' },
          { name: 'server CPU', unit: 'us' },
          { name: 'more than hello', unit: 'us' },
        ],
        rows: rows.map(({ name, rate, p50, p99, cpu }) => ({
          name,
          values: [rate, rate / (bare?.rate ?? Number.NaN), p50, p99, cpu, more(cpu, bare?.cpu)],
        })),
      },
    ],
    checks: [
      atLeast('a hot key, of the rate of hello', HELLO_OF_RATE_MIN, hit && bare ? hit.rate / bare.rate : null, ''),
      atMost('CPU that the chain adds to a hot key', CPU_US_MAX, more(hit?.cpu ?? null, bare?.cpu), 'us'),
    ],
    notes: [`Node ${process.version}.`],
  };
}

const more = (cpu: number | null, bare: number | null | undefined): number | null =>
  cpu === null || bare === null || bare === undefined ? null : cpu - bare;

async function serverOf(name: string, blatam: Blatam, file: Uint8Array): Promise<Server> {
  const client = await openBlatamClient(blatam);
  try {
    const digest = createHash('sha256').update(file).digest();
    await client.send(await client.sign('PUT', PATH, { bytes: file, digest }), 'keep');
    for (let i = 0; i < 3; i++) await assertHolds(blatam, file);
    const requests = (count: number) => Promise.all(Array.from({ length: count }, () => client.sign('GET', PATH)));
    return { name, port: blatam.edgePort, pid: blatam.pid, requests };
  } finally {
    client.close();
  }
}

const PATH = '/v1/tensors/bench/hot';

async function assertHolds(blatam: Blatam, file: Uint8Array): Promise<void> {
  const client = await openBlatamClient(blatam);
  try {
    const { body } = await client.send(await client.sign('GET', PATH), 'keep');
    if (Buffer.compare(body ?? new Uint8Array(), file) !== 0)
      throw new WrongAnswer('what was read is not what was put');
  } finally {
    client.close();
  }
}

/** All of them, each connection taking the next; how long all took, and each. */
async function sendAll(wires: readonly Wire<HttpHead>[], requests: readonly SignedRequest[]) {
  const each: number[] = [];
  let next = 0;
  const begun = performance.now();
  await Promise.all(
    wires.map(async (wire) => {
      for (let request = requests[next++]; request; request = requests[next++]) {
        const { head, ms } = await wire.exchange(request.parts, 'count');
        if (head.status !== 200) throw new WrongAnswer(`an answer was ${head.status}`);
        each.push(ms);
      }
    }),
  );
  return { ms: performance.now() - begun, each };
}
