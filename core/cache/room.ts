// Room on adapters for bytes that come in or come back, others leaving for it. Who leaves is for holdings to say; they do so
// only for bytes that have really come.
import { problem } from '../contract/problems.ts';
import { pageBytesFor } from '../gpu/arena.ts';
import type { Party } from '../gpu/freight.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { Piece } from '../gpu/pieces.ts';
import type { Pool } from '../gpu/pool.ts';
import type { StoredRecord } from '../store/records.ts';
import type { Holdings } from './holdings.ts';
import type { Asker } from './lodgings.ts';

export interface Room {
  /** A lease that holds `bytes`, in room that is free and within the quota; nobody leaves for it. */
  free(bytes: number, asker: Asker): GpuLease | undefined;
  /** A lease that can come to hold `bytes`, on the best adapter that can give it; nobody has left for it yet. */
  find(bytes: number, asker: Asker): GpuLease | undefined;
  /** Pages with this very payload under another name of the tenant, to be shared; not where they would have to leave. */
  twin(record: StoredRecord): GpuLease | undefined;
  /** A piece into the lease, which grows for it. */
  write(lease: GpuLease, piece: Piece, length: number, offset: number, asker: Asker, party?: Party): Promise<void>;
}

/** `crowded` is told before anybody leaves, and where there is not enough room even so. */
export function createRoom(
  pool: Pick<Pool, 'lease' | 'places' | 'isDraining' | 'ready'>,
  holdings: Holdings,
  crowded: () => void,
): Room {
  return {
    free(bytes, { tenant }) {
      const pageBytes = pageBytesFor(bytes);
      const account = holdings.account(tenant);
      for (const adapter of pool.ready ? pool.places(pageBytes) : []) {
        const lease = pool.lease({ adapter, pageBytes, account });
        if (holdings.isWithinQuota(lease, bytes, tenant) && lease.grow(bytes)) return lease;
        lease.release();
      }
      return undefined;
    },
    find(bytes, asker) {
      const pageBytes = pageBytesFor(bytes);
      const account = holdings.account(asker.tenant);
      for (const adapter of pool.places(pageBytes)) {
        const lease = pool.lease({ adapter, pageBytes, account });
        if (holdings.couldMakeRoom(lease, bytes, asker)) return lease;
        lease.release();
      }
      crowded();
      return undefined;
    },
    twin(record) {
      const lease = holdings.twin(record);
      return lease && !pool.isDraining(lease.adapter) ? lease : undefined;
    },
    async write(lease, piece, length, offset, asker, party) {
      if (lease.lost)
        throw problem('adapter_lost', `${lease.adapter} was lost while the tensors came in. Send them again.`);
      if (!lease.trial().fits(offset + length)) crowded();
      if (!holdings.makeRoom(lease, offset + length, asker))
        throw problem('capacity_exhausted', 'The adapter filled up while the tensors came in. Send them again.');
      await (party ? party.write(lease, offset, piece, length) : lease.write(offset, piece, length));
    },
  };
}
