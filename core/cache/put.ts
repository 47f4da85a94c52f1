// A body becomes an entry: poured to the disk and to an adapter at once, then made the key's entry in the key's order. What finds
// no room on an adapter, or loses it on the way, will do with the disk, if it is to be there; else it is refused.
import type { Durability, TensorEntry } from '../contract/messages.ts';
import { Problem, problem } from '../contract/problems.ts';
import type { Layout } from '../contract/tensors.ts';
import type { Party } from '../gpu/freight.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { Pieces } from '../gpu/pieces.ts';
import type { KeyedLock } from '../store/keyed-lock.ts';
import type { StoredRecord } from '../store/records.ts';
import type { StoreWriter } from '../store/store.ts';
import type { Admission } from './admission.ts';
import type { Departures } from './departures.ts';
import type { Digests } from './digest.ts';
import { type Entry, face, idOf, isHot, newEntry } from './entry.ts';
import type { Flushes } from './flush.ts';
import type { Holdings } from './holdings.ts';
import type { Ledger } from './ledger.ts';
import { type Body, PRIVATE_BYTES_MAX, pour, type SignedDigest, type Sink } from './pour.ts';
import type { Room } from './room.ts';

export interface PutOptions {
  readonly tenant: string;
  readonly key: string;
  readonly body: Body;
  /** The sha-256 that the caller signed; anything else is refused. `proven`: the body was compared with it already. */
  readonly digest: SignedDigest | undefined;
  readonly ttlSeconds: number | undefined;
  readonly priority: number;
  readonly durability: Durability;
  readonly signal: AbortSignal;
  /** Of a batch: takes the bytes to the adapter together with those of others. */
  readonly party?: Party | undefined;
}

export type PutAnswer = TensorEntry & { created: boolean; deduplicated: boolean } & LossWindow;

/** What a crash can still take: for how long, and how much at once with others; 0 on disk, null where it never will be. */
interface LossWindow {
  readonly flushedWithinMs: number | null;
  readonly flushedWithinBytes: number | null;
}
export type Put = (options: PutOptions) => Promise<PutAnswer>;

export interface PutParts {
  readonly pieces: Pieces;
  readonly digests: Digests;
  readonly bodyBytesMax: number;
  readonly now: () => number;
  readonly holdings: Holdings;
  readonly room: Room;
  readonly keys: KeyedLock;
  readonly ledger: Ledger;
  readonly flushes: Flushes;
  readonly admission: Admission;
  readonly departures: Departures;
}

export function createPut(parts: PutParts): Put {
  const { pieces, digests, holdings, room, keys, ledger, flushes, admission } = parts;

  /** Where a body goes: the places are there before its bytes are. */
  interface Places {
    lease: GpuLease | undefined;
    writer: StoreWriter | undefined;
    /** Others filled the adapter meanwhile: the disk will do. */
    overflowed: boolean;
  }

  async function open(
    places: Places,
    { totalBytes }: Layout,
    { tenant, key, durability, party }: PutOptions,
  ): Promise<Sink[]> {
    const asker = { tenant, id: idOf(tenant, key) };
    const lease = room.find(totalBytes, asker);
    places.lease = lease;
    if (!lease && durability === 'none')
      throw problem('capacity_exhausted', `No adapter has room for ${totalBytes} bytes that are not to be on disk.`);
    if (durability !== 'none')
      places.writer = await ledger.begin(
        asker,
        totalBytes,
        pieces.descriptor !== undefined && totalBytes > PRIVATE_BYTES_MAX,
      );
    const { writer } = places;
    const toDisk: Sink[] = writer ? [(p, n, at) => writer.write(p.bytes, n, at)] : [];
    if (!lease) {
      party?.leave(); // nobody waits for the disk's sake
      return toDisk;
    }
    const toAdapter: Sink = async (p, n, at) => {
      if (places.overflowed) return;
      await room.write(lease, p, n, at, asker, party).catch((error: unknown) => {
        party?.leave();
        if (!writer || !isFull(error)) throw error;
        places.overflowed = true;
      });
    };
    return [...toDisk, toAdapter];
  }

  /** The body is in: make it the key's entry. Runs in the key's order. */
  async function settle(entry: Entry, writer: StoreWriter | undefined, durability: Durability): Promise<PutAnswer> {
    const created = holdings.find(entry.record.tenant, entry.record.key) === undefined;
    const later = durability === 'back' && isHot(entry) && flushes.takes(entry.record.bytes);
    const entered = admission.enter(entry);
    let deduplicated = false;
    try {
      if (writer && !later) ({ deduplicated } = await ledger.commit(entry, writer));
      if (!writer) await ledger.forget(entry.id);
      if (shareTwin(entry)) deduplicated = true;
      holdings.insert(entry);
    } finally {
      entered();
    }
    if (writer && later) flushes.begin(entry, writer);
    parts.departures.look(entry); // its adapter may have died since the last byte
    return { ...face(entry), created, deduplicated, ...lossWindow(writer !== undefined, later) };
  }

  function lossWindow(isDurable: boolean, later: boolean): LossWindow {
    if (!isDurable) return { flushedWithinMs: null, flushedWithinBytes: null };
    return later
      ? { flushedWithinMs: flushes.msMax, flushedWithinBytes: flushes.bytesMax }
      : { flushedWithinMs: 0, flushedWithinBytes: 0 };
  }

  /** The same payload under another name of the tenant: one place will do. Equal digests prove it. */
  function shareTwin(entry: Entry): boolean {
    const twin = room.twin(entry.record);
    if (!twin) return false;
    entry.lease?.release();
    entry.lease = twin;
    return true;
  }

  return async (o) => {
    admission.check(o.tenant, o.key);
    const places: Places = { lease: undefined, writer: undefined, overflowed: false };
    try {
      const poured = await pour(o.body, {
        ...{ pieces: pieces.of(o.tenant), digests, bytesMax: parts.bodyBytesMax, signal: o.signal, digest: o.digest },
        sinks: (layout) => open(places, layout, o),
      });
      if (places.overflowed) {
        places.lease?.release();
        places.lease = undefined;
      }
      const entry = newEntry(recordOf(o, poured.layout, poured.digest, parts.now()), places.lease, false);
      return await keys.run(entry.id, () => settle(entry, places.writer, o.durability));
    } catch (error) {
      places.lease?.release();
      await places.writer?.abort();
      throw error;
    }
  };
}

const isFull = (error: unknown): boolean => error instanceof Problem && error.code === 'capacity_exhausted';

function recordOf(o: PutOptions, layout: Layout, digest: Uint8Array, now: number): StoredRecord {
  const [only, ...others] = layout.tensors;
  const single = others.length === 0 ? only : undefined;
  return {
    tenant: o.tenant,
    key: o.key,
    digest: Buffer.from(digest).toString('hex'),
    bytes: layout.totalBytes,
    codec: 'raw',
    dtype: single?.dtype ?? null,
    shape: single ? [...single.shape] : null,
    tensors: layout.tensors.length,
    priority: o.priority,
    createdAt: now,
    expiresAt: o.ttlSeconds === undefined ? null : now + o.ttlSeconds * 1000,
  };
}
