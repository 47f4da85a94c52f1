// The edge on Node, Bun, Deno and workerd (by wrangler): the same walk over HTTP through a real process of each, before one real
// core, each over a line of its own that can be cut. What is Cloudflare's alone is not here: see workerd.test.ts.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { adminKey, type Blatam, call, startBlatam } from '../support/blatam.ts';
import { connectionWalk, edgeWalk, WALK_BODY_BYTES_MAX } from '../support/edge-walk.ts';
import { type Issuer, startIssuer } from '../support/issuer.ts';
import { type Relay, startRelay } from '../support/relay.ts';
import { RUNTIMES, type RunningEdge, startEdgeOn } from '../support/runtimes.ts';
import { until } from '../support/until.ts';

const INTERNAL_SECRET = randomBytes(32).toString('base64');
let core: Blatam;
let issuer: Issuer;

before(async () => {
  issuer = await startIssuer();
  core = await startBlatam({ environment: { INTERNAL_SECRET } });
});
after(async () => {
  issuer?.close();
  await core?.stop();
});

for (const runtime of RUNTIMES)
  describe(runtime, () => {
    let line: Relay;
    let edge: RunningEdge;
    before(async () => {
      line = await startRelay(core.core);
      const settings = { INTERNAL_SECRET, CORE_URLS: line.url, BODY_BYTES_MAX: String(WALK_BODY_BYTES_MAX) };
      // only what the core tells, or on workerd only asking it, shows that a hot key has changed
      const hot = { EDGE_HOT_FRESH_MS: runtime === 'workerd' ? '500' : '600000' };
      edge = await startEdgeOn(runtime, { ...settings, ...hot, ...issuer.settings, ACCESS_LOG: 'on' });
    });
    after(async () => {
      await edge?.stop();
      await line?.cut();
    });

    const where = () => ({ edge: edge.url, core, line, issuer, key: adminKey(core.dataDir) });
    edgeWalk(where);

    if (runtime !== 'workerd') connectionWalk(where);
    if (runtime !== 'workerd')
      test('it counts its requests, and a setting that is wrong stops the start with its name', async () => {
        const metrics = await (await fetch(`${edge.url}/metrics`)).text();
        assert.match(metrics, /^blatam_edge_request_seconds_count\{method="PUT",route="tensors",status="2xx"\} \d+$/m);
        await assert.rejects(startEdgeOn(runtime, { CORE_URLS: line.url, BODY_BYTES_MAX: 'a-lot' }), (error: Error) => {
          assert.match(error.message, /cannot start: BODY_BYTES_MAX=a-lot: must be/);
          return true;
        });
      });

    test('a request leaves a line in the access log, under the trace that it came with', async () => {
      const traceId = randomBytes(16).toString('hex');
      const traceparent = `00-${traceId}-00f067aa0ba902b7-01`;
      const url = `${edge.url}/v1/tensors?prefix=far%2Fsecret`;
      const answer = await call(where().key, 'GET', url, { headers: { traceparent } });
      await answer.arrayBuffer();
      const pattern = new RegExp(`\\{"time".*"traceId":"${traceId}"\\}`);
      await until(() => pattern.test(edge.output()), 'the line is out');
      const line = JSON.parse(pattern.exec(edge.output())?.[0] ?? '') as Record<string, unknown>;
      const { method, path, status, keyid, requestId } = line;
      assert.deepEqual([method, path, status], ['GET', '/v1/tensors?prefix=…', 200]);
      assert.deepEqual([keyid, requestId], [where().key.keyid, answer.headers.get('x-request-id')]);
    });

    test('SIGTERM ends it, and no secret is in what it printed', async () => {
      const { code, signal } = await edge.stop();
      assert.equal(signal, null);
      assert.ok(code === 0 || (runtime === 'workerd' && code === 143), `${code}`);
      for (const secret of [INTERNAL_SECRET, adminKey(core.dataDir).secret]) assert.ok(!edge.output().includes(secret));
    });
  });
