// What a process counts of the requests to its edge, as Prometheus reads it. For runtimes whose process lives on.
// Every label comes from a short list, whatever callers send.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { AccessLog } from './access-log.ts';
import type { EdgeMetrics } from './app.ts';
import type { HotKeys } from './hot-keys.ts';

export function createEdgeMetrics(hotKeys?: HotKeys, accessLog?: AccessLog): EdgeMetrics {
  const registry = new Registry();
  if (hotKeys) watchHotKeys(registry, hotKeys);
  if (accessLog) watchAccessLog(registry, accessLog);
  const requests = new Histogram({
    name: 'blatam_edge_request_seconds',
    help: 'Time from the first byte of a request to the head of its answer, or to its last byte where the core is here.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  });
  const refusals = new Counter({
    name: 'blatam_edge_refusals_total',
    help: 'Requests that the edge refused, by problem code.',
    labelNames: ['code'],
    registers: [registry],
  });
  const methods = new Set(['GET', 'HEAD', 'PUT', 'POST', 'DELETE']);
  return {
    contentType: registry.contentType,
    ended({ method, route, status, ms }) {
      const labels = { method: methods.has(method) ? method : 'other', route, status: `${Math.floor(status / 100)}xx` };
      requests.observe(labels, ms / 1000);
    },
    refused: (code) => refusals.inc({ code }),
    text: () => registry.metrics(),
  };
}

function watchHotKeys(registry: Registry, { stats }: HotKeys): void {
  const registers = [registry];
  new Gauge({
    ...{ name: 'blatam_edge_hot_bytes', help: 'Memory of tensors that the edge answers by itself.', registers },
    collect(this: Gauge) {
      this.set(stats().bytes);
    },
  });
  new Counter({
    name: 'blatam_edge_hot_answers_total',
    help: 'Tensors that the edge answered by itself: fresh, stale while it asked, or in need because the core was away.',
    ...{ labelNames: ['how'], registers },
    collect(this: Counter) {
      this.reset();
      for (const [how, count] of Object.entries(stats().answered)) this.inc({ how }, count);
    },
  });
}

function watchAccessLog(registry: Registry, accessLog: AccessLog): void {
  new Counter({
    name: 'blatam_edge_access_log_dropped_total',
    help: 'Lines of the access log that were dropped, as whoever reads standard output was too slow.',
    registers: [registry],
    collect(this: Counter) {
      this.reset();
      this.inc(accessLog.dropped);
    },
  });
}
