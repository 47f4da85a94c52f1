// A small server of the HTTP contract for the tests of the client and the command line, on loopback. It verifies every
// request as the edge does (signature, nonce, digest of the body) and holds tensors in a Map. `override` lets a test
// answer in its own, wrong way; `requests` tells what came.

import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { contentDigest } from '../../core/contract/content-digest.ts';
import { toBase64 } from '../../core/contract/crypto.ts';
import { nodeCrypto } from '../../core/contract/crypto-node.ts';
import { parseKey } from '../../core/contract/messages.ts';
import { memoryNonces } from '../../core/contract/nonces.ts';
import { asProblem, problem, problemResponse } from '../../core/contract/problems.ts';
import { createVerifier } from '../../core/contract/signatures.ts';
import { parseTensors } from '../../core/contract/tensors.ts';

type Answer = ServerResponse<IncomingMessage>;
/** True if it has answered. Before the body is read, and before anything is verified. */
type Override = (request: IncomingMessage, answer: Answer) => boolean | Promise<boolean>;

export interface TensorServer {
  readonly url: string;
  readonly keyid: string;
  readonly secret: string;
  readonly tensors: Map<string, Uint8Array>;
  readonly requests: { method: string; url: string; headers: IncomingMessage['headers'] }[];
  pageSize: number;
  override: Override | undefined;
  close(): Promise<void>;
}

const sha256 = (bytes: Uint8Array): Uint8Array => createHash('sha256').update(bytes).digest();
const hex = (bytes: Uint8Array): string => Buffer.from(sha256(bytes)).toString('hex');

export const STATS = {
  entries: 3,
  hits: { hot: 7, cold: 2 },
  misses: 1,
  puts: 4,
  deletes: 1,
  evictions: 5,
  expired: 6,
  lost: 0,
  bytes: { hot: 3_145_728, disk: 1536 },
  kv: { blocks: 1, bytes: 2048, evictions: 8, lost: 9, tokens: { asked: 300, matched: 256 } },
};
export const POLICY = {
  strategy: 'adaptive',
  objective: 'hits',
  adjustEvery: null,
  tensors: {
    ...{ pattern: 'random', inCharge: 'arc', changes: 1 },
    experts: [
      { name: 's3fifo', hitRatio: 0.25 },
      { name: 'arc', hitRatio: null },
    ],
    parts: [
      {
        ...{ adapter: 'adapter-0', priority: '34-66', payloads: 2, bytes: 3072 },
        ...{ pattern: 'random', inCharge: 'arc', experts: [], changes: 1 },
      },
    ],
  },
  kv: {
    ...{ pattern: null, inCharge: 'lru', experts: [], changes: 0 },
    hitRatio: { now: 0.5, half: 0.25, double: null },
  },
};
export const ADAPTERS = [
  {
    id: 'adapter-0',
    name: 'Some GPU',
    backend: 'vulkan',
    software: false,
    state: 'ready',
    memory: { used: 1024, capacity: 2_147_483_648 },
    utilization: 0.125,
    queue: 2,
    restarts: 1,
  },
  { id: 'adapter-1', name: 'icd.json', state: 'restarting', memory: { used: 0, capacity: 0 }, ...idle() },
];
function idle() {
  return { utilization: 0, queue: 0, restarts: 12 };
}

function entryOf(key: string, bytes: Uint8Array, expiresAt: string | null = null) {
  const { tensors } = parseTensors(bytes);
  const [only] = tensors.length === 1 ? tensors : [];
  return {
    key,
    digest: hex(bytes),
    codec: 'raw',
    dtype: only?.dtype ?? null,
    shape: only?.shape ?? null,
    tensors: tensors.length,
    bytes: bytes.length,
    storedBytes: bytes.length,
    tier: 'hot' as const,
    adapter: 'adapter-0',
    priority: 50,
    expiresAt,
  };
}

export async function openTensorServer(): Promise<TensorServer> {
  const keyid = 'admin';
  const secret = randomBytes(32);
  const now = () => Date.now();
  const caller = { keyid, tenant: 'home', scopes: ['tensors:read', 'tensors:write'], secret };
  const keyOf = (asked: string) => (asked === keyid ? caller : undefined);
  const verify = createVerifier({ crypto: nodeCrypto, keyOf, nonces: memoryNonces({ now }), now });
  const server = createServer((request, answer) => void handle(request, answer));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');

  const state: TensorServer = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    keyid,
    secret: toBase64(secret),
    tensors: new Map(),
    requests: [],
    pageSize: 1000,
    override: undefined,
    async close() {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  };

  async function handle(request: IncomingMessage, answer: Answer): Promise<void> {
    const { method = '', url = '', headers } = request;
    state.requests.push({ method, url, headers });
    if (await state.override?.(request, answer)) return;
    try {
      const received = Buffer.concat(await request.toArray());
      const hasBody = 'content-length' in headers || 'transfer-encoding' in headers;
      const { digest } = await verify({ method, url, hasBody, headers: new Headers(Object.entries(headers) as []) });
      if (hasBody && !nodeCrypto.equal(sha256(received), digest ?? new Uint8Array()))
        throw problem('digest_mismatch', 'The sha-256 of the body is another.');
      route(method, new URL(url, state.url), headers, received, answer);
    } catch (thrown) {
      refuse(answer, thrown);
    }
  }

  function route(
    method: string,
    { pathname, searchParams }: URL,
    headers: IncomingMessage['headers'],
    body: Uint8Array,
    answer: Answer,
  ): void {
    const key = pathname.startsWith('/v1/tensors/') ? parseKey(pathname.slice('/v1/tensors/'.length)) : undefined;
    if (key !== undefined && method === 'PUT') put(key, searchParams, body, answer);
    else if (key !== undefined) existing(method, key, headers, answer);
    else if (pathname === '/v1/cache/stats') sendJson(answer, 200, STATS);
    else if (pathname === '/v1/cache/policy')
      sendJson(answer, 200, { ...POLICY, ...(method === 'PUT' ? JSON.parse(body.toString()) : {}) });
    else if (pathname === '/v1/adapters') sendJson(answer, 200, { adapters: ADAPTERS });
    else if (pathname === '/v1/tensors') list(searchParams, answer);
    else throw problem('route_unknown', 'There is no such route.');
  }

  function existing(method: string, key: string, headers: IncomingMessage['headers'], answer: Answer): void {
    const held = state.tensors.get(key);
    if (held === undefined) throw problem('tensor_unknown', 'There is no such tensor.');
    if (method === 'DELETE') {
      state.tensors.delete(key);
      answer.writeHead(204).end();
      return;
    }
    const etag = `"${hex(held)}"`;
    if (headers['if-none-match'] === etag) {
      answer.writeHead(304, { etag }).end();
      return;
    }
    answer.writeHead(200, { etag, ...bodyHeaders(held), 'x-cache': 'hot' }).end(method === 'HEAD' ? undefined : held);
  }

  function put(key: string, query: URLSearchParams, body: Uint8Array, answer: Answer): void {
    parseTensors(body);
    const deduplicated = [...state.tensors.values()].some((held) => hex(held) === hex(body));
    const created = !state.tensors.has(key);
    state.tensors.set(key, Uint8Array.from(body));
    const expiresAt = query.has('ttl') ? new Date(now() + 1000 * Number(query.get('ttl'))).toISOString() : null;
    sendJson(answer, created ? 201 : 200, { ...entryOf(key, body, expiresAt), deduplicated });
  }

  function list(query: URLSearchParams, answer: Answer): void {
    const after = query.get('cursor') ?? '';
    const limit = Number(query.get('limit') ?? state.pageSize);
    const keys = [...state.tensors.keys()].filter((key) => key.startsWith(query.get('prefix') ?? '')).sort();
    const rest = keys.filter((key) => key > after);
    const entries = rest.slice(0, limit).map((key) => entryOf(key, state.tensors.get(key) ?? new Uint8Array()));
    sendJson(answer, 200, { entries, cursor: rest.length > limit ? entries.at(-1)?.key : null });
  }

  return state;
}

export function sendJson(answer: Answer, status: number, value: unknown): void {
  answer.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

/** The fields that tell of the whole of a body. */
export const bodyHeaders = (bytes: Uint8Array): Record<string, string> => ({
  'content-length': String(bytes.length),
  'content-digest': contentDigest(sha256(bytes)),
});

export function refuse(answer: Answer, thrown: unknown): void {
  const response = problemResponse(asProblem(thrown), 'request-7');
  answer.writeHead(response.status, Object.fromEntries(response.headers));
  void response.text().then((text) => answer.end(text));
}
