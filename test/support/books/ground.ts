// Adapters without processes: real arenas, which leases are taken from and lost with, as a pool gives them. Each lease is known until
// it is given back, with whose it is, so that what the books say can be counted again from the leases up.
import assert from 'node:assert/strict';
import { problem } from '../../../core/contract/problems.ts';
import { type Arena, createArena, SLAB_BYTES } from '../../../core/gpu/arena.ts';
import { type GpuLease, gpuLease } from '../../../core/gpu/gpu-lease.ts';
import type { LeaseOptions, Pool } from '../../../core/gpu/pool.ts';

export const ADAPTERS = ['a', 'b'] as const;
export type AdapterName = (typeof ADAPTERS)[number];
/** Of each arena's 32 slabs, so that few pages make it tight; the others are somebody else's. */
const SLABS_LEFT = 5;

/** What the books ask of a pool. */
export type GroundPool = Pick<
  Pool,
  'ready' | 'capacityBytes' | 'places' | 'lease' | 'isDraining' | 'report' | 'reportOf'
>;

export interface Ground {
  readonly clock: { now: number };
  readonly pool: GroundPool;
  /** Who is asking: leases that are taken meanwhile are his. */
  readonly asking: { tenant: string | undefined };
  arenaOf(adapter: string): Arena | undefined;
  /** Those that were not given back, and whose they are; KV's are nobody's. */
  readonly leases: ReadonlyMap<GpuLease, string | undefined>;
  /** All pages of an adapter that a tenant has leased. */
  bytesOf(adapter: string, tenant: string): number;
  kill(adapter: AdapterName): void;
  restart(adapter: AdapterName): void;
  check(): void;
}

const never = () => Promise.reject(new Error('nothing is read or written here'));

export function openGround(): Ground {
  const arenas = new Map<string, Arena>();
  const ballast = new Map<string, number>();
  const taken = new Map<GpuLease, string | undefined>();
  const asking: Ground['asking'] = { tenant: undefined };
  const away = (what: string) => problem('adapter_unavailable', `${what} is not there.`);

  function restart(adapter: AdapterName): void {
    if (arenas.has(adapter)) return;
    const arena = createArena(1);
    const others = arena.lease({ pageBytes: SLAB_BYTES });
    assert.ok(others.grow(arena.capacityBytes - SLABS_LEFT * SLAB_BYTES));
    ballast.set(adapter, arena.usedBytes);
    arenas.set(adapter, arena);
  }
  for (const adapter of ADAPTERS) restart(adapter);

  function lease({ adapter, ...options }: LeaseOptions = {}): GpuLease {
    const arena = adapter === undefined ? undefined : arenas.get(adapter);
    if (!arena || adapter === undefined) throw away(adapter ?? 'an adapter');
    const made = gpuLease(adapter, { arena, read: never, write: never, run: never }, options);
    const { release } = made;
    const known = Object.assign(made, {
      release() {
        release();
        taken.delete(known);
      },
    });
    taken.set(known, asking.tenant);
    return known;
  }

  const pool: GroundPool = {
    get ready() {
      return arenas.size > 0;
    },
    get capacityBytes() {
      return [...arenas.values()].reduce((sum, { capacityBytes }) => sum + capacityBytes, 0);
    },
    places(pageBytes) {
      if (arenas.size === 0) throw away('any adapter');
      return [...arenas].sort(([, a], [, b]) => b.room(pageBytes) - a.room(pageBytes)).map(([adapter]) => adapter);
    },
    lease,
    isDraining: () => false,
    report: () => [],
    reportOf: (adapter) => assert.fail(`nobody looks at ${adapter} here`),
  };

  return {
    clock: { now: 1_800_000_000_000 },
    pool,
    asking,
    arenaOf: (adapter) => arenas.get(adapter),
    leases: taken,
    bytesOf(adapter, tenant) {
      let bytes = 0;
      for (const [lease, whose] of taken)
        if (whose === tenant && lease.adapter === adapter) bytes += lease.pages * lease.pageBytes;
      return bytes;
    },
    kill(adapter) {
      arenas.get(adapter)?.lose();
      arenas.delete(adapter);
    },
    restart,
    check() {
      for (const [adapter, arena] of arenas) {
        assert.equal(arena.faults().join('; '), '');
        let bytes = ballast.get(adapter) ?? 0;
        for (const each of taken.keys()) if (each.adapter === adapter) bytes += each.pages * each.pageBytes;
        assert.equal(arena.usedBytes, bytes, `pages of ${adapter} belong to no lease`);
      }
    },
  };
}
