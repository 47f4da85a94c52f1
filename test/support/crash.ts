// What a process that is killed and the one that looks after it agree on.
import type { StoreOptions } from '../../core/store/store.ts';

export const KEYS = 10;
export const SIZES = [0, 100, 3000, 30_000, 70_000] as const;

/** Everything that happens to a large store in hours happens to this one in seconds. */
export const SMALL_STORE: StoreOptions = {
  ...{ packBytesMax: 200_000, journalBytesMin: 20_000, compactionPauseMs: 0, spareBytes: 64 << 10 },
};

/** `at`: a named point, or a call to the disk, before, after or amid it; '' is death from outside. `times`: the how manieth. */
export interface Death {
  readonly at: string;
  readonly times: number;
}

export interface Life {
  readonly work: 'write' | 'backup' | 'restore' | 'migrate';
  readonly path: string;
  readonly death: Death;
  readonly seed: number;
  /** Where versions begin. */
  readonly version: number;
  /** Where backups go, or the one that is restored. */
  readonly backups: string;
}

/** Equal for a version's every third neighbour, so that payloads are shared. */
export function bytesOf(version: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const seed = version - (version % 3);
  for (let i = 0; i < size; i++) bytes[i] = (Math.imul(i + seed, 0x9e37_79b1) >>> 13) & 255;
  return bytes;
}
