// A bare Hono app on Node that says hello: what any HTTP server of ours costs before it does anything.
import { serve } from '@hono/node-server';
import { Hono } from 'hono';

const app = new Hono();
app.get('/', (c) => c.text('hello'));
const serverOptions = { keepAliveTimeout: 75_000 }; // as ours: signing for others takes a while
serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1', overrideGlobalObjects: true, serverOptions }, ({ port }) =>
  process.stdout.write(`listens on ${port}\n`),
);
