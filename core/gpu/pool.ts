// All adapters of this core: starts a process for each, starts it again when it dies (with growing pauses), and places
// new leases on the adapter with the most free pages. A lease stays on its adapter; when that adapter's process dies the
// lease is `lost`, and `onLost` tells who kept something there. The parent never dies with a child.
import { problem } from '../contract/problems.ts';
import { type Candidate, candidate, SEARCH_ORDER } from './adapters.ts';
import { BINDING_BYTES, type Lease } from './arena.ts';
import { type DeviceLink, NoAdapter, startDevice } from './device-link.ts';
import type { Piece, Pieces } from './pieces.ts';

export interface PoolOptions {
  /** `auto`, or one entry of GPU_ADAPTERS for each process. */
  readonly adapters: 'auto' | readonly string[];
  readonly dataDir: string;
  readonly memoryBytes: number;
  readonly deadlineMs: number;
  readonly pieces: Pieces;
  /** What the adapter processes inherit. */
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: (line: string) => void;
  readonly onLost: (adapter: string) => void;
}

export interface AdapterReport {
  readonly id: string;
  readonly name: string;
  readonly state: 'starting' | 'ready' | 'restarting';
  readonly reason?: string;
  readonly source: string;
  readonly backend?: string;
  readonly vendor?: string;
  readonly architecture?: string;
  readonly software?: boolean;
  readonly features?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
  readonly pid?: number;
  readonly memory: { readonly used: number; readonly capacity: number };
  readonly utilization: number;
  readonly queue: number;
  readonly restarts: number;
}

/** Bytes on one adapter. */
export interface GpuLease {
  readonly adapter: string;
  readonly lost: boolean;
  readonly bytes: number;
  readonly pages: number;
  /** Pages that others on this adapter would have to give back before `grow(bytes)` can be true. */
  missing(bytes: number): number;
  /** Room for `bytes` in all; false if the adapter has not enough free pages. */
  grow(bytes: number): boolean;
  write(offset: number, piece: Piece, length: number): Promise<void>;
  read(offset: number, piece: Piece, length: number): Promise<void>;
  release(): void;
}

export interface Pool {
  readonly ready: boolean;
  /** One line on why it is not ready, or on what it runs. */
  readonly summary: string;
  readonly capacityBytes: number;
  report(): AdapterReport[];
  /** An empty lease on the adapter with the most room; throws `adapter_unavailable` if none is ready. */
  lease(): GpuLease;
  close(): Promise<void>;
}

const BACKOFF_MS = { first: 100, max: 10_000, calmAfter: 30_000 };

interface Slot {
  readonly id: string;
  sources: readonly string[];
  source: string;
  link?: DeviceLink;
  startedAt: number;
  state: AdapterReport['state'];
  reason: string;
  restarts: number;
  pauseMs: number;
}

/** Resolves once every slot has been tried once; slots without an adapter go on trying. */
export async function openPool(options: PoolOptions): Promise<Pool> {
  const bindings = Math.max(1, Math.floor(options.memoryBytes / BINDING_BYTES));
  const lists = options.adapters === 'auto' ? [SEARCH_ORDER] : options.adapters.map((source) => [source]);
  const slots: Slot[] = lists.map((sources, i) => ({
    id: `adapter-${i}`,
    sources,
    source: sources[0] ?? '',
    startedAt: 0,
    state: 'starting',
    reason: 'starting',
    restarts: 0,
    pauseMs: BACKOFF_MS.first,
  }));
  const closing = new AbortController();
  const bringing = new Set<Promise<void>>();
  const timers = new Set<NodeJS.Timeout>();

  const start = (found: Candidate) => startDevice({ ...options, candidate: found, bindings, signal: closing.signal });

  /** The first source that has an adapter, or undefined with the reasons kept. */
  async function search(slot: Slot): Promise<DeviceLink | undefined> {
    const reasons: string[] = [];
    for (const source of slot.sources) {
      if (closing.signal.aborted) break;
      try {
        const link = await start(candidate(source, options.dataDir));
        slot.source = source;
        slot.sources = [source]; // what was found once is what comes back
        return link;
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        reasons.push(reason);
        if (!(error instanceof NoAdapter || closing.signal.aborted)) options.log(`${slot.id}: ${reason}`);
      }
    }
    slot.reason = reasons.join('; ');
    return undefined; // said by whoever asks; a search in vain may go on for days
  }

  function bring(slot: Slot): Promise<void> {
    const brought = tryStart(slot).finally(() => bringing.delete(brought));
    bringing.add(brought);
    return brought;
  }

  async function tryStart(slot: Slot): Promise<void> {
    const link = await search(slot);
    if (!link) return retryLater(slot);
    if (closing.signal.aborted) return link.close();
    slot.link = link;
    slot.startedAt = performance.now();
    slot.state = 'ready';
    const { name, software } = link.hello;
    slot.reason = `${name}${software ? ' (software)' : ''}`;
    options.log(`${slot.id}: ${slot.reason}, ${link.arena.capacityBytes / 2 ** 20} MiB, process ${link.pid}`);
    void link.lost.then((reason) => fell(slot, reason));
  }

  function fell(slot: Slot, reason: string): void {
    delete slot.link;
    slot.state = 'restarting';
    if (closing.signal.aborted) return;
    options.onLost(slot.id);
    if (performance.now() - slot.startedAt > BACKOFF_MS.calmAfter) slot.pauseMs = BACKOFF_MS.first;
    slot.restarts++;
    slot.reason = `lost: ${reason}`;
    options.log(`${slot.id} was lost (${reason}); next start in ${slot.pauseMs} ms`);
    retryLater(slot);
  }

  function retryLater(slot: Slot): void {
    if (closing.signal.aborted) return;
    slot.state = 'restarting';
    const timer = setTimeout(() => {
      timers.delete(timer);
      void bring(slot);
    }, slot.pauseMs).unref();
    timers.add(timer);
    slot.pauseMs = Math.min(slot.pauseMs * 2, BACKOFF_MS.max);
  }

  await Promise.all(slots.map(bring));
  const links = () => slots.flatMap((slot) => (slot.link ? [{ slot, link: slot.link }] : []));
  return {
    get ready() {
      return slots.some((slot) => slot.state === 'ready');
    },
    get summary() {
      return slots.map((slot) => slot.reason).join(', ');
    },
    get capacityBytes() {
      return links().reduce((sum, { link }) => sum + link.arena.capacityBytes, 0);
    },
    report: () => slots.map(reportOf),
    lease() {
      const [first, ...rest] = links();
      if (!first)
        throw problem('adapter_unavailable', `No adapter is ready: ${slots.map((s) => s.reason).join('; ')}.`);
      const most = rest.reduce((a, b) => (b.link.arena.freePages > a.link.arena.freePages ? b : a), first);
      return onLink(most.slot.id, most.link);
    },
    async close() {
      closing.abort();
      for (const timer of timers) clearTimeout(timer);
      await Promise.all(bringing);
      await Promise.all(links().map(({ link }) => link.close()));
    },
  };
}

function onLink(adapter: string, link: DeviceLink): GpuLease {
  const lease: Lease = link.arena.lease();
  let bytes = 0;
  return {
    adapter,
    get lost() {
      return lease.lost;
    },
    get bytes() {
      return bytes;
    },
    get pages() {
      return lease.pages;
    },
    missing: (size) => lease.missing(size),
    grow(size) {
      const grown = lease.grow(size);
      if (grown) bytes = Math.max(bytes, size);
      return grown;
    },
    write: async (offset, piece, length) => link.write(piece, length, lease.runs(offset, length)),
    read: async (offset, piece, length) => link.read(piece, length, lease.runs(offset, length)),
    release: () => lease.release(),
  };
}

function reportOf(slot: Slot): AdapterReport {
  const { link } = slot;
  const common = {
    id: slot.id,
    state: slot.state,
    source: slot.source,
    restarts: slot.restarts,
    ...(slot.state === 'ready' ? {} : { reason: slot.reason }),
  };
  if (!link) return { ...common, name: slot.source, memory: { used: 0, capacity: 0 }, utilization: 0, queue: 0 };
  const { name, backend, vendor, architecture, software, features, limits } = link.hello;
  const upMs = performance.now() - slot.startedAt;
  return {
    ...common,
    name,
    backend,
    vendor,
    architecture,
    software,
    features,
    limits,
    pid: link.pid,
    memory: { used: link.arena.usedBytes, capacity: link.arena.capacityBytes },
    utilization: upMs > 0 ? Math.min(1, link.busyMs / upMs) : 0,
    queue: link.queue,
  };
}
