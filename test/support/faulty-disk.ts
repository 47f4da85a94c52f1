// A disk that fails when it is told to: the real one, with a fault put below the store at a call. After a failed sync, what it
// was for is not on the disk, as happens where a kernel drops the pages that it could not write.
import { type Disk, type DiskFile, type Opening, realDisk } from '../../core/store/disk.ts';

export type Fault =
  | 'short write'
  | 'full'
  | 'failed write'
  | 'failed sync'
  | 'failed read'
  | 'flipped read'
  | 'failed call';

export interface FaultyDisk extends Disk {
  /** Asked before each call; undefined: none. */
  fault: (call: 'write' | 'sync' | 'read' | 'call', path: string) => Fault | undefined;
  readonly injected: Map<Fault, number>;
}

const failure = (code: string): Error => Object.assign(new Error(`${code}: injected`), { code });

export function faultyDisk(): FaultyDisk {
  const disk: FaultyDisk = {
    ...realDisk,
    fault: () => undefined,
    injected: new Map(),
    async open(path, how) {
      meet('call', path);
      return faultyFile(await realDisk.open(path, how), path, how);
    },
    async rename(from, to) {
      meet('call', to);
      return realDisk.rename(from, to);
    },
    async syncFolder(path) {
      meet('call', path);
      return realDisk.syncFolder(path);
    },
  };

  function drawn(call: Parameters<FaultyDisk['fault']>[0], path: string): Fault | undefined {
    const fault = disk.fault(call, path);
    if (fault) disk.injected.set(fault, (disk.injected.get(fault) ?? 0) + 1);
    return fault;
  }
  function meet(call: 'call', path: string): void {
    if (drawn(call, path)) throw failure('EIO');
  }

  function faultyFile(file: DiskFile, path: string, how: Opening): DiskFile {
    /** Written and not yet synced. */
    let unsynced: { from: number; to: number }[] = [];
    return {
      ...file,
      async write(bytes, position) {
        const fault = drawn('write', path);
        if (fault === 'full') throw failure('ENOSPC');
        if (fault === 'failed write') throw failure('EIO');
        const short = fault === 'short write' && bytes.length > 4096 ? bytes.subarray(0, 4096) : bytes;
        const written = await file.write(short, position);
        unsynced.push({ from: position, to: position + written });
        return written;
      },
      async sync() {
        const fault = drawn('sync', path);
        const lost = unsynced;
        unsynced = [];
        if (!fault) return file.sync();
        if (how !== 'new direct')
          for (const { from, to } of lost) await file.write(Buffer.alloc(to - from, 0xdb), from).catch(() => {});
        throw failure('EIO');
      },
      async read(into, position) {
        const fault = drawn('read', path);
        if (fault === 'failed read') throw failure('EIO');
        const read = await file.read(into, position);
        const at = Math.floor(read / 2);
        if (fault === 'flipped read' && read > 0) into[at] = (into[at] ?? 0) ^ 4;
        return read;
      },
    };
  }
  return disk;
}
