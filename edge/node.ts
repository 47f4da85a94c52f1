// The edge on Node: beside a core in the same process, or before a core elsewhere (CORE_URLS). `npm start` does both
// (core/main.ts).
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { type HttpBindings, type ServerType, serve } from '@hono/node-server';
import type { Context } from 'hono';
import { nodeCrypto } from '../core/contract/crypto-node.ts';
import type { Handover } from '../core/contract/internal.ts';
import { metricsGuard } from '../core/contract/metrics-guard.ts';
import { memoryNonces } from '../core/contract/nonces.ts';
import { createRefusals, type Refusals } from '../core/contract/refusals.ts';
import { createVerifier, type Key, type Nonces } from '../core/contract/signatures.ts';
import type { WholeTensor } from '../core/contract/whole-tensor.ts';
import { createAccessLog } from './access-log.ts';
import { createEdge, type EdgeEnv } from './app.ts';
import { SMALL_BODY_BYTES } from './body.ts';
import { addressesBy, type EdgeConfig } from './config.ts';
import { type Forward, forwardElsewhere, keysElsewhere, refusalsElsewhere } from './forward.ts';
import { hotElsewhere } from './hot-elsewhere.ts';
import { createHotKeys, type HotKeys } from './hot-keys.ts';
import { createHotStore } from './hot-store.ts';
import { limitsBy } from './limit.ts';
import { createEdgeMetrics } from './metrics.ts';
import { coreElsewhere, readyElsewhere } from './reach.ts';
import { tokensBy } from './tokens.ts';

/** Above the idle time of the clients in front, so that a reused connection is not cut under a request. */
const KEEP_ALIVE_MS = 75_000;
/** For the largest bodies on slow lines; a caller that falls silent is cut long before. */
const REQUEST_MS_MAX = 3_600_000;
const DRAIN_MS_MAX = 6_000;
const CONNECTIONS_MAX = 4096;

export interface Listener {
  readonly port: number;
  /** Takes no more work, lets what runs finish, and cuts what is still there after 6 s. */
  close(): Promise<void>;
}

type Fetch = Parameters<typeof serve>[0]['fetch'];

/** `setting` names the port in errors. */
export function listen(fetch: Fetch, hostname: string, port: number, setting: string): Promise<Listener> {
  let draining = false;
  const answer: Fetch = (request, bindings) => {
    // Who goes on asking over a connection that is open is told to open no other request on it.
    if (draining && 'outgoing' in bindings && 'shouldKeepAlive' in bindings.outgoing)
      bindings.outgoing.shouldKeepAlive = false;
    return fetch(request, bindings);
  };
  return new Promise((resolve, reject) => {
    const options = {
      keepAliveTimeout: KEEP_ALIVE_MS,
      headersTimeout: KEEP_ALIVE_MS + 1000,
      requestTimeout: REQUEST_MS_MAX,
    };
    const server = serve(
      { fetch: answer, port, hostname, overrideGlobalObjects: true, serverOptions: options },
      (info) => {
        server.off('error', reject);
        resolve({
          port: info.port,
          close() {
            draining = true;
            return drain(server);
          },
        });
      },
    );
    if ('maxConnections' in server) server.maxConnections = CONNECTIONS_MAX;
    server.once('error', (error: NodeJS.ErrnoException) => reject(explain(error, hostname, port, setting)));
  });
}

function explain(error: NodeJS.ErrnoException, hostname: string, port: number, setting: string): Error {
  if (error.code === 'EADDRINUSE')
    return new Error(`port ${port} on ${hostname} is taken; set ${setting} to another one`);
  if (error.code === 'EADDRNOTAVAIL')
    return new Error(`this machine has no address ${hostname}; set HOST to one that it has`);
  return error;
}

async function drain(server: ServerType): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  if (!('closeIdleConnections' in server)) return closed;
  const idle = setInterval(() => server.closeIdleConnections(), 100);
  const timer = setTimeout(() => server.closeAllConnections(), DRAIN_MS_MAX);
  await closed;
  clearInterval(idle);
  clearTimeout(timer);
}

/** What a core of the same process gives its edge. */
export interface CoreHere {
  readonly fetch: (request: Request, bindings: HttpBindings & { handover: Handover }) => Response | Promise<Response>;
  readonly keyOf: (keyid: string) => Promise<Key | undefined>;
  readonly ready: () => Promise<{ ok: boolean; detail: string }>;
  readonly nonces: Nonces;
  readonly refusals: Refusals;
  /** One of at most so many bytes. */
  readonly tensor: (tenant: string, key: string, bytesMax: number) => Promise<WholeTensor | undefined>;
  /** From now on it is told, before whoever changed it is answered. */
  readonly onChange: (told: (tenant: string, key: string) => void) => void;
}

export interface EdgeOptions {
  readonly config: EdgeConfig;
  readonly core: CoreHere | undefined;
  readonly log: (line: string) => void;
}

/** The edge, listening. */
export async function startEdge({ config, core, log }: EdgeOptions): Promise<Listener> {
  const behind = core ? here(core, config) : elsewhere(config, log);
  const accessLog = config.ACCESS_LOG === 'on' ? createAccessLog(writeOut, Date.now) : undefined;
  const edge = createEdge({
    verify: createVerifier({ crypto: nodeCrypto, now: Date.now, nonces: behind.nonces, keyOf: behind.keyOf }),
    tokens: tokensBy(config, { crypto: nodeCrypto, log, readFile: (url) => readFile(url, 'utf8') }),
    body: { bytesMax: config.BODY_BYTES_MAX, smallBytes: SMALL_BODY_BYTES, crypto: nodeCrypto },
    origins: config.EDGE_CORS_ORIGINS,
    hotKeys: behind.hotKeys,
    forward: behind.forward,
    coreReady: behind.ready,
    refusals: behind.refusals,
    addresses: addressesBy(config),
    limits: limitsBy(config, { now: Date.now, movedOf: (c) => movedBy(socketOf(c)) }),
    addressOf: (c) => socketOf(c).remoteAddress,
    goOn: () => {},
    metrics: createEdgeMetrics(behind.hotKeys, accessLog),
    accessLog,
    mayReadMetrics: metricsGuard(config.HOST, config.METRICS_TOKEN),
    log,
  });
  const listener = await listen(
    (request, bindings) => edge.fetch(request, { ...bindings }),
    config.HOST,
    config.EDGE_PORT,
    'EDGE_PORT',
  );
  return {
    port: listener.port,
    async close() {
      await listener.close();
      behind.end();
      await behind.refusals.flush();
      await accessLog?.close();
    },
  };
}

/** Resolves when it is out, in order with all other output. */
const writeOut = (text: string) => new Promise<void>((resolve) => process.stdout.write(text, () => resolve()));

const socketOf = (c: Context<EdgeEnv>) => (c.env as unknown as HttpBindings).incoming.socket;
const movedBy = ({ bytesRead, bytesWritten }: Socket): number => bytesRead + bytesWritten;

interface Behind {
  /** Nothing is listened to any more. */
  readonly end: () => void;
  readonly hotKeys: HotKeys | undefined;
  readonly forward: Forward;
  readonly keyOf: (keyid: string) => Promise<Key | undefined>;
  readonly ready: () => Promise<{ ok: boolean; detail: string }>;
  readonly nonces: Nonces;
  readonly refusals: Refusals;
}

/** In process: the core reads the request's socket and writes the answer's itself, no byte is passed on twice. */
function here(core: CoreHere, config: EdgeConfig): Behind {
  const forward: Forward = async (c) => {
    const { incoming, outgoing } = c.env as unknown as HttpBindings;
    for (const [name, value] of [...c.get('safe'), ...c.get('fields')]) outgoing.setHeader(name, value);
    const handover = {
      requestId: c.get('requestId'),
      traceId: c.get('trace').traceId,
      caller: c.get('caller'),
      digest: c.get('digest'),
      body: c.get('body'),
    };
    const answer = await core.fetch(c.req.raw, { incoming, outgoing, handover });
    if (outgoing.headersSent) c.set('sent', headOf(outgoing));
    return answer;
  };
  return { ...core, end: () => {}, hotKeys: hotKeysOf(core, config), forward };
}

function headOf(outgoing: HttpBindings['outgoing']) {
  const length = outgoing.getHeader('content-length');
  return { status: outgoing.statusCode, bytes: length === undefined ? undefined : Number(length) };
}

/** The core tells of every change. */
function hotKeysOf(core: CoreHere, config: EdgeConfig): HotKeys | undefined {
  if (config.EDGE_HOT_MIB === 0) return undefined;
  const store = createHotStore(config.EDGE_HOT_MIB << 20);
  const hotKeys = createHotKeys(store, {
    bring: (c, key) => core.tensor(c.get('caller').tenant, key, store.answerBytesMax),
    freshMs: () => Number.POSITIVE_INFINITY,
    ...{ staleMs: 0, errorMs: 0, shared: true, toldAtOnce: true, now: Date.now },
  });
  core.onChange(hotKeys.changed);
  return hotKeys;
}

function elsewhere(config: EdgeConfig, log: (line: string) => void): Behind {
  const core = coreElsewhere(config, nodeCrypto);
  const { hotKeys, follow } = hotElsewhere(core, config, true);
  const end = new AbortController();
  follow(end.signal);
  return {
    hotKeys,
    end: () => end.abort(),
    forward: forwardElsewhere(core),
    keyOf: keysElsewhere(core, config.EDGE_KEY_SECONDS * 1000),
    ready: () => readyElsewhere(core),
    refusals: createRefusals({ write: refusalsElsewhere(core), now: Date.now, log }),
    nonces: memoryNonces({ max: config.NONCES_MAX, now: Date.now }),
  };
}
