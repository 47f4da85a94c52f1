// The core's metrics, in Prometheus' words. Routes and codes are the only labels that callers influence, and both come from
// fixed lists; gauges are read from their rooms when somebody asks.
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Backups } from './backups/backups.ts';
import type { Cache } from './cache/cache.ts';
import type { Claims } from './cache/claims.ts';
import type { Kv } from './cache/kv/kv.ts';
import type { Pieces } from './gpu/pieces.ts';
import type { AdapterReport, Pool } from './gpu/pool.ts';
import type { Store } from './store/store.ts';

const SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];
const METHODS = new Set(['GET', 'HEAD', 'PUT', 'POST', 'DELETE']);

/** Gauges that prom-client calls totals; each has the same by type beside it. */
const MISNAMED = ['nodejs_active_handles_total', 'nodejs_active_requests_total', 'nodejs_active_resources_total'];

export interface CoreMetrics {
  readonly contentType: string;
  /** Starts the clock of a request; call the result with its route and status. */
  begin(method: string): (route: string, status: number) => void;
  /** From now on, these rooms are read at every scrape. */
  watch(rooms: {
    cache: Cache;
    claims: Claims;
    kv: Kv;
    pool: Pool;
    pieces: Pieces;
    store: Pick<Store, 'report'>;
    backups: Pick<Backups, 'status'>;
  }): void;
  text(): Promise<string>;
}

const isUp = ({ state }: AdapterReport): boolean => state !== 'starting' && state !== 'restarting';
const isDraining = ({ state }: AdapterReport): boolean => state === 'draining' || state === 'drained';

export function createMetrics(): CoreMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  for (const name of MISNAMED) registry.removeSingleMetric(name);
  const requests = new Histogram({
    name: 'blatam_core_request_seconds',
    help: 'Time from the first byte of a request to the last of its answer.',
    labelNames: ['method', 'route', 'status'],
    buckets: SECONDS,
    registers: [registry],
  });

  let scrapes = 0;
  /** Read once for each scrape, however many metrics tell of it. */
  function oncePerScrape<T>(read: () => T): () => T {
    let last: { readonly scrape: number; readonly value: T } | undefined;
    return () => {
      if (last?.scrape !== scrapes) last = { scrape: scrapes, value: read() };
      return last.value;
    };
  }

  type Readings = () => Iterable<readonly [label: string, value: number]>;

  function gauge(name: string, help: string, label: string | undefined, read: Readings): void {
    const labelNames = label ? [label] : [];
    const gauge = new Gauge({ name, help, labelNames, registers: [registry], collect });
    function collect(): void {
      for (const [value, number] of read()) gauge.set(label ? { [label]: value } : {}, number);
    }
  }

  /** What only grows, counted elsewhere. */
  function counter(name: string, help: string, label: string, read: Readings): void {
    const counter = new Counter({ name, help, labelNames: [label], registers: [registry], collect });
    function collect(): void {
      counter.reset();
      for (const [value, number] of read()) counter.inc({ [label]: value }, number);
    }
  }

  /** One value for each adapter. */
  const each = (adapters: () => readonly AdapterReport[], read: (adapter: AdapterReport) => number): Readings => {
    return () => adapters().map((adapter) => [adapter.id, read(adapter)] as const);
  };

  return {
    contentType: registry.contentType,
    begin(method) {
      const end = requests.startTimer({ method: METHODS.has(method) ? method : 'other' });
      return (route, status) => end({ route, status });
    },
    watch({ claims, pool, pieces, backups, ...rooms }) {
      const cache = oncePerScrape(rooms.cache.stats);
      const kv = oncePerScrape(rooms.kv.stats);
      const store = oncePerScrape(rooms.store.report);
      const adapters = oncePerScrape(pool.report);
      gauge('blatam_cache_entries', 'Entries held.', undefined, () => [['', cache().entries]]);
      gauge('blatam_cache_bytes', 'Bytes held, by where they lie.', 'tier', () => {
        const { hot, disk } = cache().bytes;
        return Object.entries({ hot, disk });
      });
      gauge('blatam_cache_adapter_bytes', 'Bytes of tensors on each adapter.', 'adapter', () =>
        Object.entries(cache().bytes.adapters),
      );
      gauge('blatam_cache_saved_bytes', 'What equal payloads would take more if each had its pages.', undefined, () => [
        ['', cache().bytes.saved],
      ]);
      gauge('blatam_cache_hit_ratio', 'Share of late reads from adapters, and with other room.', 'capacity', () =>
        Object.entries(cache().hitRatio).map(([room, ratio]) => [room, ratio ?? Number.NaN] as const),
      );
      counter('blatam_cache_hit_bytes_total', 'Bytes of reads, by where they were answered from.', 'result', () =>
        Object.entries(cache().hitBytes),
      );
      gauge('blatam_cache_flush_bytes', 'Answered with durability=back, and not yet on disk.', undefined, () => [
        ['', cache().flushing.bytes],
      ]);
      gauge('blatam_cache_flush_age_seconds', 'How long the oldest of that has waited.', undefined, () => [
        ['', cache().flushing.ageMs / 1000],
      ]);
      counter('blatam_cache_reads_total', 'Reads, by where they were answered from.', 'result', () => {
        const { hits, misses } = cache();
        return Object.entries({ ...hits, miss: misses });
      });
      counter('blatam_cache_removals_total', 'Entries that left, by cause.', 'cause', () => {
        const { room, ...others } = cache().removals;
        return Object.entries({ evicted: room, ...others });
      });
      counter('blatam_prefetch_total', 'Tensors brought ahead, by what became of that.', 'result', () => {
        const { used, late, wrong, cancelled } = cache().prefetch;
        return Object.entries({ used, late, wrong, cancelled });
      });
      gauge('blatam_prefetch_ratio', 'Of what was brought ahead and of reads from disk, what was right.', 'of', () => {
        const { precision, recall } = cache().prefetch;
        return Object.entries({ precision, recall });
      });
      gauge('blatam_disk_bytes', 'All that the store has on disk, and its budget.', 'which', () => {
        const { bytes, bytesMax } = cache().disk;
        return Object.entries({ held: bytes, ...(bytesMax === null ? {} : { budget: bytesMax }) });
      });
      gauge('blatam_store_pack_bytes', 'Bytes of packs: what counts, and all.', 'which', () => {
        return Object.entries(store().packBytes);
      });
      counter(
        'blatam_store_work_total',
        'Syncs, frames they made last, packs compacted, rounds of the scrub.',
        'what',
        () => {
          const { syncs, frames, compacted, scrubbed } = store();
          return Object.entries({ syncs, frames, compacted: compacted.packs, scrubs: scrubbed.rounds });
        },
      );
      counter('blatam_store_faults_total', 'What went wrong with the disk, by what it was.', 'fault', () => {
        return Object.entries(store().faults);
      });
      gauge('blatam_claims', 'Keys that somebody computes.', undefined, () => [['', claims.open]]);
      gauge('blatam_claims_waiting', 'Calls that wait for those keys.', undefined, () => [['', claims.waiting]]);
      gauge('blatam_kv_blocks', 'Blocks of tokens whose KV is held.', undefined, () => [['', kv().blocks]]);
      gauge('blatam_kv_bytes', 'Bytes of pages that hold KV.', undefined, () => [['', kv().bytes]]);
      counter('blatam_kv_tokens_total', 'Tokens asked for, to load or to attend to, and those held.', 'result', () => {
        const { asked, matched } = kv().tokens;
        return Object.entries({ held: matched, missing: asked - matched });
      });
      counter('blatam_kv_removals_total', 'Blocks that left, by cause.', 'cause', () => {
        const { evictions, expired, cleared, lost, damaged } = kv();
        return Object.entries({ evicted: evictions, expired, cleared, lost, damaged });
      });
      const tiers = () => Object.entries(kv().tiers);
      gauge('blatam_kv_tier_blocks', 'Blocks by where they lie.', 'tier', () => tiers().map(([n, t]) => [n, t.blocks]));
      gauge('blatam_kv_tier_bytes', 'Bytes by where they lie.', 'tier', () => tiers().map(([n, t]) => [n, t.bytes]));
      gauge('blatam_kv_memory_bytes', 'Packages of KV in memory.', undefined, () => [['', kv().memory.bytes]]);
      counter(
        'blatam_kv_tier_changes_total',
        'Blocks packed, without pages, written to disk; back on adapters, or not worth it, from memory and from disk.',
        'way',
        () => {
          const { memory, disk } = kv();
          const { packed, demotions, returned, declined } = memory;
          const ofDisk = { written: disk.written, from_disk: disk.returned, declined_from_disk: disk.declined };
          return Object.entries({ packed, demoted: demotions, returned, declined, ...ofDisk });
        },
      );
      counter('blatam_kv_packed_bytes_total', 'Bytes of packages made, and what they are smaller by.', 'what', () => {
        const { packedBytes, savedBytes } = kv().memory;
        return Object.entries({ packed: packedBytes, saved: savedBytes });
      });
      counter('blatam_kv_tier_seconds_total', 'Time spent on packing and on returns.', 'way', () => {
        const { memory, disk } = kv();
        const { packMs, returnMs } = memory;
        const from_disk = disk.returnMs / 1000;
        return Object.entries({ packed: packMs / 1000, returned: returnMs / 1000, from_disk });
      });
      counter('blatam_kv_prefetch_total', 'Blocks of KV brought ahead, by what became of that.', 'result', () => {
        const { used, late, wrong, cancelled } = kv().prefetch;
        return Object.entries({ used, late, wrong, cancelled });
      });
      gauge(
        'blatam_kv_prefetch_ratio',
        'Of blocks brought ahead and of those read from elsewhere, what was right.',
        'of',
        () => {
          const { precision, recall } = kv().prefetch;
          return Object.entries({ precision, recall });
        },
      );
      gauge('blatam_kv_disk_bytes', 'Files of KV on disk.', undefined, () => [['', kv().disk.bytes]]);
      counter('blatam_kv_disk_total', 'Records of KV on disk, by what became of them.', 'what', () => {
        const { written, copied, evictions, refused, damaged, failures } = kv().disk;
        return Object.entries({ written, copied, evicted: evictions, refused, damaged, failures });
      });
      counter('blatam_kv_canary_total', 'Looks at codecs beside the exact blocks they stand for.', 'result', () => {
        const { looks, skipped, failed } = kv().canary;
        return [...Object.entries({ looks, skipped, failed })];
      });
      const pairs = () => kv().canary.pairs.map((pair) => [`${pair.codecK} ${pair.codecV}`, pair] as const);
      gauge('blatam_kv_canary_error', 'Relative error of attention, by codecs of K and V.', 'codecs', () =>
        pairs().map(([name, { error }]) => [name, error]),
      );
      gauge('blatam_kv_canary_alarm', '1 where attention is further off than its codecs explain.', 'codecs', () =>
        pairs().map(([name, { alarm }]) => [name, Number(alarm)]),
      );
      gauge('blatam_kv_pinned_bytes', 'Bytes of KV that pins keep.', undefined, () => [['', kv().pinned.bytes]]);
      gauge('blatam_backups', 'Backups that are kept.', undefined, () => [['', backups.status.count]]);
      gauge('blatam_backup_age_seconds', 'Since the newest that is whole; NaN: there is none.', undefined, () => {
        const { newest } = backups.status;
        return [['', newest ? (Date.now() - newest.atMs) / 1000 : Number.NaN]];
      });
      gauge('blatam_backup_bytes', 'Of the newest that is whole, and how much of it was copied.', 'what', () => {
        const { bytes = 0, copied } = backups.status.newest ?? {};
        return Object.entries({ all: bytes, copied: copied?.bytes ?? 0 });
      });
      gauge('blatam_backup_seconds', 'How long the newest that is whole took.', undefined, () => [
        ['', backups.status.newest?.seconds ?? 0],
      ]);
      gauge(
        'blatam_backup_drill_failed',
        '1 while the last drill found no backup that can be restored.',
        undefined,
        () => [['', backups.status.alarm ? 1 : 0]],
      );
      counter('blatam_backup_failures_total', 'What failed of backups, by what it was.', 'kind', () =>
        Object.entries(backups.status.failures),
      );
      gauge('blatam_pieces_free', 'Pieces of memory that no payload holds.', undefined, () => [['', pieces.free]]);
      gauge('blatam_pieces_waiting', 'Payloads that wait for a piece.', undefined, () => [['', pieces.waiting]]);
      const adapter = (name: string, help: string, read: (a: AdapterReport) => number) =>
        gauge(`blatam_adapter_${name}`, help, 'adapter', each(adapters, read));
      adapter('up', 'Whether the adapter has a process that serves.', (a) => (isUp(a) ? 1 : 0));
      adapter('draining', 'Whether the adapter takes no new leases.', (a) => (isDraining(a) ? 1 : 0));
      adapter('used_bytes', 'Pages leased on the adapter.', (a) => a.memory.used);
      adapter(
        'asked_bytes',
        'What those leases were asked to hold; used above it is lost inside pages.',
        (a) => a.memory.asked,
      );
      adapter('idle_bytes', 'Free, but cut into pages of one size: lost to other sizes.', (a) => a.memory.idle);
      adapter('capacity_bytes', 'Memory set aside on the adapter.', (a) => a.memory.capacity);
      adapter('free_slabs', 'Slabs of 4 MiB that no page size has.', (a) => a.memory.freeSlabs);
      adapter('in_flight_bytes', 'Bytes sent to or asked of the adapter and not answered.', (a) => a.bytesInFlight);
      adapter('queue', 'Requests that the adapter has not answered.', (a) => a.queue);
      adapter('utilization_ratio', 'Share of the last five seconds with work pending.', (a) => a.utilization);
      counter(
        'blatam_adapter_restarts_total',
        'Times its process was started again.',
        'adapter',
        each(adapters, (a) => a.restarts),
      );
    },
    text() {
      scrapes++;
      return registry.metrics();
    },
  };
}
