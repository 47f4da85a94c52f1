// All that is held compared with its checksums, on request: pages on their adapters, packages here, records on disk. What is damaged
// is forgotten, but where the block has another that is whole: then the one that is damaged goes alone.
import { setImmediate } from 'node:timers/promises';
import { isWhole } from '../../codec/packing.ts';
import { Problem } from '../../contract/problems.ts';
import type { HeldPages, KvBlock } from './held.ts';
import { damagedAmong, forget } from './seals.ts';

/** The others may leave meanwhile. */
const AT_ONCE = 64;

export interface KvVerified {
  pages: number;
  packages: number;
  records: number;
  /** A line each. */
  faults: string[];
}

export async function verifyAll(held: HeldPages, signal: AbortSignal): Promise<KvVerified> {
  const done: KvVerified = { pages: 0, packages: 0, records: 0, faults: [] };
  const all = [...held.blocks.all()];
  for (let at = 0; at < all.length; at += AT_ONCE) {
    signal.throwIfAborted();
    const some = all.slice(at, at + AT_ONCE);
    await verifyRecords(some, held, done, signal);
    await verifyPackages(some, held, done, signal);
    await verifyHot(
      some.filter(({ removed, kept }) => !removed && kept.hot && !kept.hot.lease.lost),
      held,
      done,
      signal,
    );
  }
  return done;
}

async function verifyHot(
  some: readonly KvBlock[],
  held: HeldPages,
  done: KvVerified,
  signal: AbortSignal,
): Promise<void> {
  const { pages, release } = held.read(some);
  try {
    for (const [index, layer] of await damagedAmong(pages, {}, signal)) {
      const gone = forget(held, some[index], pages[index]);
      done.faults.push(`block ${some[index]?.hash} was damaged in layer ${layer}; ${gone} blocks are forgotten`);
    }
    done.pages += pages.reduce((sum, { lease }) => sum + lease.pages, 0);
  } catch (error) {
    // what was on a lost adapter is forgotten as a whole
    if (!(error instanceof Problem) || error.code !== 'adapter_lost') throw error;
  } finally {
    release();
  }
}

async function verifyPackages(
  some: readonly KvBlock[],
  held: HeldPages,
  done: KvVerified,
  signal: AbortSignal,
): Promise<void> {
  for (const block of some) {
    const { cold } = block.kept;
    if (!cold || block.removed) continue;
    await setImmediate(undefined, { signal }); // hashing is work, and others wait
    if (block.kept.cold !== cold) continue;
    done.packages++;
    if (cold.layers.every(({ k, v }) => isWhole(k) && isWhole(v))) continue;
    const gone = held.damaged(block, 'package');
    done.faults.push(`the package of block ${block.hash} was damaged; ${gone} blocks are forgotten`);
  }
}

async function verifyRecords(
  some: readonly KvBlock[],
  held: HeldPages,
  done: KvVerified,
  signal: AbortSignal,
): Promise<void> {
  for (const block of some) {
    const { disk } = block.kept;
    if (!disk || block.removed) continue;
    signal.throwIfAborted();
    const isWhole = await held.disk.isWhole(block);
    done.records++;
    if (isWhole || (block.kept.disk === disk && !block.removed)) continue;
    done.faults.push(
      `the record of block ${block.hash} was damaged; ${block.removed ? 'it is' : 'nothing else is'} forgotten`,
    );
  }
}
