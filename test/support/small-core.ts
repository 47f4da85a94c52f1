// A core as small as an edge can tell: a process that knows every key under one secret, is ready, and answers each call with its
// own name and what it was told. `?wait=MS` holds the answer back, `?stuck=NAME` for ever on the core of that name, `?events` begins
// one that does not end.
//   INTERNAL_SECRET, NAME, PORT (0: a free one); prints its port.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { sealKey } from '../../core/contract/internal.ts';

const { NAME = '', INTERNAL_SECRET = '', PORT = '0' } = process.env;
const secret = Buffer.from(INTERNAL_SECRET, 'base64');
let isReady = true;
let left = 0;
process.on('SIGUSR2', () => {
  isReady = !isReady;
});

const server = createServer(async (request, answer): Promise<void> => {
  const { pathname, searchParams } = new URL(request.url ?? '', 'http://core');
  const [, keyid] = /^\/v1\/internal\/keys\/(.+)$/.exec(pathname) ?? [];
  answer.on('close', () => {
    if (!answer.writableFinished) left += 1;
  });
  if (pathname === '/readyz') return void answer.writeHead(isReady ? 200 : 503).end();
  if (keyid) {
    const key = { keyid, tenant: `tenant ${keyid}`, scopes: ['tensors:read'], secret };
    return void answer.end(JSON.stringify({ sealed: await sealKey(secret, key) }));
  }
  for await (const _ of request);
  if (searchParams.has('events')) {
    answer.writeHead(200, { 'content-type': 'text/event-stream' });
    return void answer.write('id: 1\n\nid: 2\ndata: not who');
  }
  if (searchParams.get('stuck') === NAME) return;
  const { traceparent, tracestate } = request.headers;
  const reply = () =>
    answer.end(
      JSON.stringify({ core: NAME, deadline: request.headers['x-deadline-ms'], left, traceparent, tracestate }),
    );
  setTimeout(reply, Number(searchParams.get('wait') ?? 0));
});
server.listen(Number(PORT), '127.0.0.1', () => console.log((server.address() as AddressInfo).port));
