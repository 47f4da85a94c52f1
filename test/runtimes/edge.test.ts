// The edge on Node, Bun, Deno and workerd (by wrangler): the same walk over HTTP through a real process of each, before one real
// core, each over a line of its own that can be cut. What is Cloudflare's alone is not here: see workerd.test.ts.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { adminKey, type Blatam, startBlatam } from '../support/blatam.ts';
import { connectionWalk, edgeWalk, WALK_BODY_BYTES_MAX } from '../support/edge-walk.ts';
import { type Issuer, startIssuer } from '../support/issuer.ts';
import { type Relay, startRelay } from '../support/relay.ts';
import { RUNTIMES, type RunningEdge, startEdgeOn } from '../support/runtimes.ts';

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
      edge = await startEdgeOn(runtime, { ...settings, ...hot, ...issuer.settings });
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
        assert.match(metrics, /^blatam_edge_request_seconds_count\{method="PUT",status="201"\} \d+$/m);
        await assert.rejects(startEdgeOn(runtime, { CORE_URLS: line.url, BODY_BYTES_MAX: 'a-lot' }), (error: Error) => {
          assert.match(error.message, /cannot start: BODY_BYTES_MAX=a-lot: must be/);
          return true;
        });
      });

    test('SIGTERM ends it, and no secret is in what it printed', async () => {
      const { code, signal } = await edge.stop();
      assert.equal(signal, null);
      assert.ok(code === 0 || (runtime === 'workerd' && code === 143), `${code}`);
      for (const secret of [INTERNAL_SECRET, adminKey(core.dataDir).secret]) assert.ok(!edge.output().includes(secret));
    });
  });
