// A disk that holds so many bytes and no more: the real one, with what each file below a folder has counted as it is written,
// cut, renamed and removed. Files that are removed while they are open keep their bytes until they are closed.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Disk, type DiskFile, type Opening, realDisk } from '../../core/store/disk.ts';

export interface SmallDisk extends Disk {
  bytesMax: number;
  /** What there is now, and the most there ever was. */
  readonly bytes: number;
  readonly most: number;
  /** Counts what lies below a folder already. */
  count(folder: string): void;
}

interface Node {
  bytes: number;
  names: number;
  opened: number;
}

const full = (): Error => Object.assign(new Error('ENOSPC: the small disk is full'), { code: 'ENOSPC' });

export function smallDisk(bytesMax = Number.POSITIVE_INFINITY): SmallDisk {
  const nodes = new Map<string, Node>();
  let bytes = 0;
  let most = 0;

  function nodeAt(path: string): Node {
    const known = nodes.get(path);
    if (known) return known;
    const node: Node = { bytes: Math.max(0, realDisk.sizeOf(path)), names: 1, opened: 0 };
    nodes.set(path, node);
    bytes += node.bytes;
    most = Math.max(most, bytes);
    return node;
  }
  function grow(node: Node, to: number): void {
    if (to <= node.bytes) return;
    if (bytes + to - node.bytes > disk.bytesMax) throw full();
    bytes += to - node.bytes;
    most = Math.max(most, bytes);
    node.bytes = to;
  }
  function leave(node: Node | undefined): void {
    if (node && node.names === 0 && node.opened === 0) bytes -= node.bytes;
  }
  function unlink(path: string): void {
    for (const [name, node] of nodes) {
      if (name !== path && !name.startsWith(`${path}/`)) continue;
      nodes.delete(name);
      node.names--;
      leave(node);
    }
  }

  function counted(file: DiskFile, node: Node): DiskFile {
    return {
      ...file,
      async write(part, position) {
        grow(node, position + part.length);
        return file.write(part, position);
      },
      async truncate(length) {
        if (length < node.bytes) bytes -= node.bytes - length;
        node.bytes = length;
        await file.truncate(length);
      },
      async close() {
        await file.close();
        node.opened--;
        leave(node);
      },
    };
  }

  const disk: SmallDisk = {
    ...realDisk,
    bytesMax,
    get bytes() {
      return bytes;
    },
    get most() {
      return most;
    },
    count(folder) {
      for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true }))
        if (entry.isFile()) nodeAt(join(entry.parentPath, entry.name));
    },
    async open(path: string, how: Opening) {
      const file = await realDisk.open(path, how);
      const node = nodeAt(path);
      node.opened++;
      return counted(file, node);
    },
    async rename(from, to) {
      await realDisk.rename(from, to);
      for (const [name, node] of [...nodes]) {
        if (name !== from && !name.startsWith(`${from}/`)) continue;
        const next = to + name.slice(from.length);
        unlink(next);
        nodes.delete(name);
        nodes.set(next, node);
      }
    },
    async remove(path) {
      await realDisk.remove(path);
      unlink(path);
    },
  };
  return disk;
}
