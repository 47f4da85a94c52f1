// Bytes on one adapter: pages of its arena, and the way to its process. It stays on its adapter; when that adapter's
// process dies it is `lost`, and what is asked of it fails with `adapter_lost`.
import { problem } from '../contract/problems.ts';
import type { Arena, Lease, Run } from './arena.ts';
import type { DeviceLink, RequestOptions, RunOptions, RunReport } from './device-link.ts';
import type { Piece } from './pieces.ts';
import type { Work } from './work.ts';

/** Of an adapter's link, what a lease needs. */
export type LeaseLink = Pick<DeviceLink, 'arena' | 'write' | 'read' | 'run'>;

export interface GpuLease {
  readonly adapter: string;
  /** Its pages, as its adapter's arena knows them: for trials. */
  readonly lease: Lease;
  readonly lost: boolean;
  readonly bytes: number;
  readonly pageBytes: number;
  readonly pages: number;
  /** Room for `bytes` in all; false if the adapter has not enough free pages. */
  grow(bytes: number): boolean;
  /** What would be if other leases of this adapter were given back. */
  trial(): GpuTrial;
  /** Where page `index` lies, for a kernel. */
  range(index: number): Run;
  write(offset: number, piece: Piece, length: number, options?: RequestOptions): Promise<void>;
  read(offset: number, piece: Piece, length: number, options?: RequestOptions): Promise<void>;
  /** Work on the adapter where these pages are. */
  run(work: Work, options?: RunOptions): Promise<RunReport>;
  release(): void;
}

/** See `Trial` of arena.ts; leases of other adapters change nothing. */
export interface GpuTrial {
  give(lease: GpuLease): void;
  keep(lease: GpuLease): void;
  /** Whether the lease that is tried for could grow to `bytes`. */
  fits(bytes: number): boolean;
}

export interface GpuLeaseOptions {
  readonly pageBytes?: number;
  /** Told of every page that is taken, and at the end of all that are given back or lost, in bytes. */
  readonly account?: Account;
}
export type Account = (arena: Arena, bytes: number) => void;

export function gpuLease(adapter: string, link: LeaseLink, { account, ...options }: GpuLeaseOptions = {}): GpuLease {
  const { arena } = link;
  const lease = arena.lease(options);
  let bytes = 0;
  let accounted = 0;
  return {
    adapter,
    lease,
    get lost() {
      return lease.lost;
    },
    get bytes() {
      return bytes;
    },
    pageBytes: lease.pageBytes,
    get pages() {
      return lease.pages;
    },
    grow(size) {
      if (!lease.grow(size)) return false;
      bytes = Math.max(bytes, size);
      const more = lease.pages * lease.pageBytes - accounted;
      accounted += more;
      if (more > 0) account?.(arena, more);
      return true;
    },
    trial() {
      const trial = arena.trial();
      return {
        give: (other) => trial.give(other.lease),
        keep: (other) => trial.keep(other.lease),
        fits: (size) => trial.fits(lease, size),
      };
    },
    range: (index) => lease.range(index),
    write: async (offset, piece, length, options) => link.write(piece, length, lease.runs(offset, length), options),
    read: async (offset, piece, length, options) => link.read(piece, length, lease.runs(offset, length), options),
    async run(work, options) {
      if (lease.lost)
        throw problem('adapter_lost', `${adapter} was lost, and these pages with it. Send the request again.`);
      return link.run(work, options);
    },
    release() {
      lease.release();
      if (accounted > 0) account?.(arena, -accounted);
    },
  };
}
