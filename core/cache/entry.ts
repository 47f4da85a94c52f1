// One version of what one key holds: its record, the pages it has on an adapter if it has any, and what is under way with
// it. The words here are facts; who may change them is said beside each.
import type { TensorEntry } from '../contract/messages.ts';
import type { GpuLease } from '../gpu/gpu-lease.ts';
import type { StoredRecord } from '../store/records.ts';

/** Its bytes never change; a later PUT puts another entry in its place. */
export interface Entry {
  readonly id: string;
  readonly record: StoredRecord;
  /** Holdings'. */
  lease: GpuLease | undefined;
  onDisk: boolean;
  /** Holdings': `hold`. */
  readers: number;
  /** Holdings': no longer in the index, its pages go with its last reader. */
  replaced: boolean;
  promoting: boolean;
  /** On its way to another adapter. */
  moving: boolean;
  /**
   * Holdings' (`flush`): answered from memory and on its way to the disk, which is reached or not when this resolves; until
   * then it must not leave the adapter, and is there whatever becomes of that.
   */
  flushing: Promise<void> | undefined;
}

export const idOf = (tenant: string, key: string): string => `${tenant}\0${key}`;

export const newEntry = (record: StoredRecord, lease: GpuLease | undefined, onDisk: boolean): Entry => ({
  id: idOf(record.tenant, record.key),
  record,
  lease,
  onDisk,
  readers: 0,
  replaced: false,
  promoting: false,
  moving: false,
  flushing: undefined,
});

export const isHot = (entry: Entry): boolean => entry.lease !== undefined && !entry.lease.lost;

/** Whether its pages may be given to others. */
export const mayLeave = ({ readers, flushing }: Entry): boolean => readers === 0 && !flushing;

/** Whether what the disk has under its name may go: nobody reads or writes there. */
export const mayLeaveDisk = (entry: Entry | undefined): boolean =>
  !entry || (entry.readers === 0 && !entry.flushing && !entry.promoting && !entry.moving);

/** An entry as callers see it. */
export function face(entry: Entry): TensorEntry {
  const { record, lease } = entry;
  const hot = isHot(entry);
  return {
    key: record.key,
    digest: record.digest,
    codec: record.codec,
    dtype: record.dtype,
    shape: record.shape,
    tensors: record.tensors,
    bytes: record.bytes,
    storedBytes: record.bytes,
    tier: hot ? 'hot' : 'cold',
    adapter: hot && lease ? lease.adapter : null,
    priority: record.priority,
    expiresAt: record.expiresAt === null ? null : new Date(record.expiresAt).toISOString(),
  };
}
