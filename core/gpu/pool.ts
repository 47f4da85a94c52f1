// All adapters of this core: starts a process for each, starts it again when it dies (with growing pauses), and places
// new leases where they are worth most (placement.ts). A lease stays on its adapter; when that adapter's process dies the
// lease is `lost`, and `onLost` tells who kept something there. An adapter that drains takes no new leases, also after a
// restart, until it is resumed. The parent never dies with a child.
import { problem } from '../contract/problems.ts';
import { type Candidate, candidate, SEARCH_ORDER } from './adapters.ts';
import { type ArenaUsage, BINDING_BYTES, type ClassUsage, PAGE_BYTES } from './arena.ts';
import { type DeviceLink, NoAdapter, type RunOptions, type RunReport, startDevice } from './device-link.ts';
import type { KernelSettings } from './device-words.ts';
import { type GpuLease, type GpuLeaseOptions, gpuLease } from './gpu-lease.ts';
import type { Pieces } from './pieces.ts';
import { byWorth } from './placement.ts';
import { createUtilization, type Utilization } from './utilization.ts';
import type { Work } from './work.ts';

export interface PoolOptions extends KernelSettings {
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
  readonly pausesMs?: Pauses;
}

/** Before a process is started again, in milliseconds: doubled each time, until one has served for `calmAfter`. */
export interface Pauses {
  readonly first: number;
  readonly max: number;
  readonly calmAfter: number;
}

export interface AdapterReport {
  readonly id: string;
  readonly name: string;
  /** `draining`: takes no new leases and still holds some; `drained`: holds none. */
  readonly state: 'starting' | 'ready' | 'draining' | 'drained' | 'restarting';
  readonly reason?: string;
  readonly source: string;
  readonly backend?: string;
  readonly vendor?: string;
  readonly architecture?: string;
  readonly software?: boolean;
  readonly features?: readonly string[];
  readonly limits?: Readonly<Record<string, number>>;
  readonly pid?: number;
  readonly memory: MemoryReport;
  /** Share of the last seconds with work pending, 0 to 1. */
  readonly utilization: number;
  readonly queue: number;
  readonly bytesInFlight: number;
  readonly restarts: number;
}

/** In bytes: asked <= used <= used + idle <= capacity (`ArenaUsage` says what each is). */
export interface MemoryReport {
  readonly used: number;
  readonly capacity: number;
  readonly asked: number;
  readonly idle: number;
  readonly slabs: number;
  readonly freeSlabs: number;
  readonly classes: readonly ClassUsage[];
}

export interface LeaseOptions extends GpuLeaseOptions {
  /** Where; else on the best. */
  readonly adapter?: string;
}

export interface Pool {
  /** Whether an adapter takes new leases. */
  readonly ready: boolean;
  /** One line on why it is not ready, or on what it runs. */
  readonly summary: string;
  readonly capacityBytes: number;
  report(): AdapterReport[];
  /** The adapters that take new leases, best first; throws `adapter_unavailable` if there is none. */
  places(pageBytes?: number): string[];
  /** An empty lease; throws `adapter_unavailable` where none is to be had. */
  lease(options?: LeaseOptions): GpuLease;
  /** Work on an adapter, wherever what it touches came from. */
  run(adapter: string, work: Work, options?: RunOptions): Promise<RunReport>;
  /** No new leases there from now on. */
  drain(adapter: string): AdapterReport;
  resume(adapter: string): AdapterReport;
  isDraining(adapter: string): boolean;
  /** Its process ends, and all it held with it; resolves once another serves, or after half a minute in vain. */
  restart(adapter: string, signal?: AbortSignal): Promise<AdapterReport>;
  /** Throws `adapter_unknown` for an id that is none. */
  reportOf(adapter: string): AdapterReport;
  /** What contradicts the arenas' invariants. */
  faults(): string[];
  close(): Promise<void>;
}

const PAUSES_MS: Pauses = { first: 100, max: 10_000, calmAfter: 30_000 };
const RESTART_MS_MAX = 30_000;
/** Utilization is that of the last five seconds. */
const SAMPLE = { everyMs: 500, count: 11 };

interface Slot {
  readonly id: string;
  sources: readonly string[];
  source: string;
  link?: DeviceLink;
  startedAt: number;
  utilization: Utilization;
  state: 'starting' | 'ready' | 'restarting';
  draining: boolean;
  /** Told when it serves again. */
  readonly awaiting: Set<() => void>;
  reason: string;
  restarts: number;
  pauseMs: number;
}

/** Resolves once every slot has been tried once; slots without an adapter go on trying. */
export async function openPool(options: PoolOptions): Promise<Pool> {
  const { pausesMs = PAUSES_MS } = options;
  const bindings = Math.max(1, Math.floor(options.memoryBytes / BINDING_BYTES));
  const lists = options.adapters === 'auto' ? [SEARCH_ORDER] : options.adapters.map((source) => [source]);
  const slots: Slot[] = lists.map((sources, i) => ({
    id: `adapter-${i}`,
    sources,
    source: sources[0] ?? '',
    startedAt: 0,
    utilization: createUtilization(SAMPLE.count, 0),
    state: 'starting',
    draining: false,
    awaiting: new Set(),
    reason: 'starting',
    restarts: 0,
    pauseMs: pausesMs.first,
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
    slot.utilization = createUtilization(SAMPLE.count, slot.startedAt);
    slot.state = 'ready';
    for (const tell of slot.awaiting) tell();
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
    if (performance.now() - slot.startedAt > pausesMs.calmAfter) slot.pauseMs = pausesMs.first;
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
    slot.pauseMs = Math.min(slot.pauseMs * 2, pausesMs.max);
  }

  const sampling = setInterval(() => {
    for (const { utilization, link } of slots) if (link) utilization.sample(performance.now(), link.busyMs);
  }, SAMPLE.everyMs).unref();

  function slotOf(adapter: string): Slot {
    const found = slots.find(({ id }) => id === adapter);
    if (found) return found;
    const ids = slots.map(({ id }) => id).join(', ');
    throw problem('adapter_unknown', `There is no adapter ${adapter.slice(0, 64)}; there are ${ids}.`);
  }

  function linkOf(slot: Slot): DeviceLink {
    if (slot.link) return slot.link;
    throw problem('adapter_unavailable', `${slot.id} is not ready: ${slot.reason}.`);
  }

  function places(pageBytes = PAGE_BYTES): string[] {
    const open = slots.filter((slot) => slot.link && !slot.draining);
    const best = byWorth(open, ({ link, utilization }) => ({
      freeBytes: link?.arena.room(pageBytes) ?? 0,
      utilization: utilization.share(performance.now(), link?.busyMs ?? 0),
      queue: link?.queue ?? 0,
    })).map(({ id }) => id);
    if (best.length > 0) return best;
    throw problem('adapter_unavailable', `No adapter is ready: ${slots.map(whyNot).join('; ')}.`);
  }

  /** Resolves when the slot serves again, when the signal says so, or after a while. */
  function comesBack(slot: Slot, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const tell = () => {
        slot.awaiting.delete(tell);
        clearTimeout(timer);
        signal.removeEventListener('abort', tell);
        resolve();
      };
      const timer = setTimeout(tell, RESTART_MS_MAX);
      signal.addEventListener('abort', tell);
      slot.awaiting.add(tell);
      if (signal.aborted) tell();
    });
  }

  function setDraining(adapter: string, draining: boolean): AdapterReport {
    const slot = slotOf(adapter);
    if (slot.draining !== draining)
      options.log(`${adapter} ${draining ? 'drains: no new leases there' : 'is resumed'}`);
    slot.draining = draining;
    return reportOf(slot);
  }

  await Promise.all(slots.map(bring));
  const links = () => slots.flatMap((slot) => (slot.link ? [{ slot, link: slot.link }] : []));
  return {
    get ready() {
      return slots.some((slot) => slot.state === 'ready' && !slot.draining);
    },
    get summary() {
      return slots.map((slot) => (slot.draining ? `${slot.reason}, ${stateOf(slot)}` : slot.reason)).join(', ');
    },
    get capacityBytes() {
      return links().reduce((sum, { link }) => sum + link.arena.capacityBytes, 0);
    },
    report: () => slots.map(reportOf),
    places,
    lease({ adapter, ...options } = {}) {
      const slot = slotOf(adapter ?? places(options.pageBytes)[0] ?? '');
      if (slot.draining)
        throw problem('adapter_unavailable', `${slot.id} takes no new leases: it is ${stateOf(slot)}.`);
      return gpuLease(slot.id, linkOf(slot), options);
    },
    run: async (adapter, work, options) => linkOf(slotOf(adapter)).run(work, options),
    drain: (adapter) => setDraining(adapter, true),
    resume: (adapter) => setDraining(adapter, false),
    isDraining: (adapter) => slotOf(adapter).draining,
    async restart(adapter, signal = new AbortController().signal) {
      const slot = slotOf(adapter);
      const link = linkOf(slot);
      const back = comesBack(slot, AbortSignal.any([signal, closing.signal]));
      options.log(`${adapter} is restarted on request`);
      await link.restart();
      await back;
      return reportOf(slot);
    },
    reportOf: (adapter) => reportOf(slotOf(adapter)),
    faults: () => links().flatMap(({ slot, link }) => link.arena.faults().map((fault) => `${slot.id}: ${fault}`)),
    async close() {
      closing.abort();
      clearInterval(sampling);
      for (const timer of timers) clearTimeout(timer);
      await Promise.all(bringing);
      await Promise.all(links().map(({ link }) => link.close()));
    },
  };
}

function stateOf({ state, draining, link }: Slot): AdapterReport['state'] {
  if (state !== 'ready' || !draining) return state;
  return link && link.arena.usedBytes > 0 ? 'draining' : 'drained';
}

const whyNot = (slot: Slot): string =>
  slot.draining ? `${slot.id} is ${stateOf(slot)} and takes no new leases` : slot.reason;

const memoryOf = (usage: ArenaUsage | undefined): MemoryReport => ({
  used: usage?.usedBytes ?? 0,
  capacity: usage?.capacityBytes ?? 0,
  asked: usage?.askedBytes ?? 0,
  idle: usage?.idleBytes ?? 0,
  slabs: usage?.slabs ?? 0,
  freeSlabs: usage?.freeSlabs ?? 0,
  classes: usage?.classes ?? [],
});

function reportOf(slot: Slot): AdapterReport {
  const { link } = slot;
  const common = {
    id: slot.id,
    state: stateOf(slot),
    source: slot.source,
    memory: memoryOf(link?.arena.usage()),
    utilization: link ? slot.utilization.share(performance.now(), link.busyMs) : 0,
    queue: link?.queue ?? 0,
    bytesInFlight: link?.flight.bytes ?? 0,
    restarts: slot.restarts,
    ...(slot.state === 'ready' ? {} : { reason: slot.reason }),
  };
  if (!link) return { ...common, name: slot.source };
  const { name, backend, vendor, architecture, software, features, limits } = link.hello;
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
  };
}
