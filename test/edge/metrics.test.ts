// The edge's metrics are what Prometheus reads, and whatever is asked there is a bounded number of them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAccessLog } from '../../edge/access-log.ts';
import { createEdgeMetrics } from '../../edge/metrics.ts';
import { routeClass } from '../../edge/route-class.ts';
import { judgeExposition } from '../support/exposition.ts';

const hotKeys = {
  ...{ link: async () => {}, changed: () => {} },
  stats: () => ({ bytes: 5, count: 1, evictions: 0, answered: { fresh: 3, stale: 0, in_need: 1 }, brought: 1 }),
};

test('createEdgeMetrics: its text is well formed, before any request and after many', async () => {
  const metrics = createEdgeMetrics(
    hotKeys,
    createAccessLog(async () => {}, Date.now),
  );
  assert.ok(judgeExposition(await metrics.text()).has('blatam_edge_access_log_dropped_total'));
  for (let i = 0; i < 500; i++) {
    const path = i % 2 ? `/v1/tensors/key${i}` : `/v1/${i}"\n}`;
    metrics.ended({ method: `M${i}`, route: routeClass(path), status: 200 + i, ms: i });
    metrics.refused('tensor_unknown');
  }
  const text = await metrics.text();
  const families = judgeExposition(text);
  assert.equal(families.get('blatam_edge_refusals_total'), 1);
  assert.match(text, /_count\{method="other",route="tensors",status="4xx"\} 50$/m);
  assert.ok((families.get('blatam_edge_request_seconds') ?? 0) <= 2 * 6 * 18);
});

for (const [what, text] of [
  ['no help', '# TYPE a_total counter\na_total 1\n'],
  ['no type', '# HELP a_total x\na_total 1\n'],
  ['a family twice', '# HELP a x\n# TYPE a gauge\na 1\n# HELP a x\n# TYPE a gauge\na 2\n'],
  ['a sample twice', '# HELP a x\n# TYPE a gauge\na{b="c"} 1\na{b="c"} 2\n'],
  ['a counter that is not called so', '# HELP a x\n# TYPE a counter\na 1\n'],
  ['a line in a label', '# HELP a x\n# TYPE a gauge\na{b="c\nd"} 1\n'],
  ['no last end of line', '# HELP a x\n# TYPE a gauge\na 1'],
] as const)
  test(`judgeExposition finds ${what}`, () => assert.throws(() => judgeExposition(text)));
