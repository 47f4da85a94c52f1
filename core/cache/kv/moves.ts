// Blocks from one adapter to another. Off one that takes no new leases: to others while they have free room, the beginnings of
// chains first; what finds none goes to the cold shelf, and what has no room there is forgotten, with all that follows it. Both
// places count in KV's budget while bytes travel: where it is full, the block whose turn it is leaves for that. By hand: to the
// one that is named. Bytes go through
// pieces, and are compared with their seals where they have come to; readers go on with the pages they began on.
import { problem } from '../../contract/problems.ts';
import type { GpuLease } from '../../gpu/gpu-lease.ts';
import { PIECE_BYTES, type Piece, type Pieces } from '../../gpu/pieces.ts';
import { withParents } from './blocks.ts';
import type { HeldPages, KvBlock, Wanted } from './held.ts';
import { damagedAmong, forget } from './seals.ts';

export interface KvDrained {
  moved: number;
  bytes: number;
  /** Are in memory only now. */
  cooled: number;
  /** Found no room, and are to be stored again by whoever needs them. */
  left: number;
}

export async function clearAdapter(
  adapter: string,
  held: HeldPages,
  pieces: Pieces,
  /** Gives blocks packages. */
  pack: (blocks: readonly KvBlock[], signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<KvDrained> {
  const done: KvDrained = { moved: 0, bytes: 0, cooled: 0, left: 0 };
  const isThere = ({ kept }: KvBlock) => kept.hot?.lease.adapter === adapter;
  const blocks = [...held.blocks.all()].filter(isThere);
  for (const block of blocks.sort((a, b) => a.index - b.index)) {
    signal.throwIfAborted();
    if (block.removed || !isThere(block)) continue;
    const { hot } = block.kept;
    let isMoved = await tryMove(block, held, pieces, signal);
    if (!isMoved && block.kept.hot !== hot) isMoved = await tryMove(block, held, pieces, signal); // it was recoded meanwhile
    if (isMoved) {
      done.moved++;
      done.bytes += block.kept.hot?.lease.bytes ?? 0;
      continue;
    }
    if (!block.removed && isThere(block)) await pack([block], signal);
    if (block.removed || !isThere(block)) continue;
    if (held.cool(block)) done.cooled++;
    else done.left += held.blocks.remove(block, 'drained');
  }
  return done;
}

/** The same where an adapter is lost on the way: false. */
function tryMove(block: KvBlock, held: HeldPages, pieces: Pieces, signal: AbortSignal): Promise<boolean> {
  return moveBlock(block, held, pieces, signal).catch((error: unknown) => {
    if (signal.aborted) throw error;
    return false;
  });
}

/** False where there is no room for it, on any adapter or on that which `room` is of, or other pages took their place meanwhile. */
export async function moveBlock(
  block: KvBlock,
  held: HeldPages,
  pieces: Pieces,
  signal: AbortSignal,
  room: (wanted: Wanted) => GpuLease | undefined = held.freeLease,
): Promise<boolean> {
  if (block.removed || !block.kept.hot) return false;
  const letGo = held.blocks.hold(withParents(block)); // else room made on the way could cost what it follows, and it
  const { pages, release } = held.read([block]);
  try {
    const [from] = pages;
    if (!from) return false;
    const piece = await pieces.take(signal);
    try {
      const lease = room({ tenant: block.kept.tenant, shape: block.root.shape, form: from.form });
      if (!lease) return false;
      const moved = { ...from, lease };
      let isDamaged = false;
      try {
        await copy(from.lease, lease, piece, signal);
        isDamaged = (await damagedAmong([moved], {}, signal)).size > 0;
      } catch (error) {
        held.release(lease);
        throw error;
      }
      if (!isDamaged) return held.replace(block, from, moved);
      held.release(lease);
      forget(held, block, from);
      return false;
    } finally {
      piece.release();
    }
  } finally {
    release();
    letGo();
  }
}

/** As many pages at a time as a piece holds. */
async function copy(from: GpuLease, to: GpuLease, piece: Piece, signal: AbortSignal): Promise<void> {
  const step = Math.floor(PIECE_BYTES / from.pageBytes) * from.pageBytes;
  if (step === 0) throw problem('internal', `A page of ${from.pageBytes} bytes does not fit a piece.`);
  for (let at = 0; at < from.bytes; at += step) {
    const length = Math.min(step, from.bytes - at);
    await from.read(at, piece, length, { signal });
    await to.write(at, piece, length, { signal });
  }
}
