// Small moves of many tensors to and from adapters, carried as one: each of a known number of parties asks for one move or
// none, and when the last of them has, one run for each adapter carries what all of them asked for (several, where one would
// be beyond a run's bounds). Who waits here waits for all others: a party that asks for nothing has to `leave`.
// A party that asks again is served at once, by itself. A run that fails fails those whose moves it carried, and no others.
import { problem } from '../contract/problems.ts';
import type { GpuLease } from './gpu-lease.ts';
import type { Piece } from './pieces.ts';
import { type Move, WORK_BOUNDS, type Work, wholeWords } from './work.ts';

export interface Party {
  /** The first `length` bytes of the piece to `offset` of the lease; resolves when the piece may be reused. */
  write(lease: GpuLease, offset: number, piece: Piece, length: number): Promise<void>;
  read(lease: GpuLease, offset: number, piece: Piece, length: number): Promise<void>;
  /** It asks for nothing more; of no effect where it has asked, or left before. */
  leave(): void;
}

type Direction = 'uploads' | 'downloads';

interface Load {
  readonly lease: GpuLease;
  readonly direction: Direction;
  readonly moves: readonly Move[];
  readonly bytes: number;
  resolve(): void;
  reject(reason: unknown): void;
}

const BYTES_MAX = { uploads: WORK_BOUNDS.uploadBytes, downloads: WORK_BOUNDS.downloadBytes };

export function createFreight(count: number): readonly Party[] {
  const loads: Load[] = [];
  let awaited = count;
  const arrive = (): void => {
    if (--awaited === 0) for (const carried of together(loads)) void carry(carried);
  };

  function party(): Party {
    let here = false;
    function ask(direction: Direction, lease: GpuLease, offset: number, piece: Piece, length: number): Promise<void> {
      if (here) return direction === 'uploads' ? lease.write(offset, piece, length) : lease.read(offset, piece, length);
      here = true;
      return new Promise((resolve, reject) => {
        if (lease.lost) reject(lost(lease));
        else {
          const moves = movesOf(lease, offset, piece, length);
          const bytes = moves.reduce((sum, { range }) => sum + wholeWords(range.size), 0);
          loads.push({ lease, direction, moves, bytes, resolve, reject });
        }
        arrive();
      });
    }
    return {
      write: (...asked) => ask('uploads', ...asked),
      read: (...asked) => ask('downloads', ...asked),
      leave() {
        if (here) return;
        here = true;
        arrive();
      },
    };
  }

  return Array.from({ length: count }, party);
}

function movesOf({ lease }: GpuLease, offset: number, piece: Piece, length: number): Move[] {
  let from = 0;
  return lease.runs(offset, length).map(({ binding, byteOffset, byteLength }) => {
    const range = { at: binding, offset: byteOffset, size: byteLength };
    from += byteLength;
    return { piece, from: from - byteLength, range };
  });
}

/** Those that one run can carry: on one adapter, in one direction, within the bounds. */
function together(loads: readonly Load[]): Load[][] {
  const runs: { readonly carried: Load[]; moves: number; bytes: number }[] = [];
  for (const load of loads) {
    const { lease, direction, moves, bytes } = load;
    const open = runs.findLast(({ carried: [first] }) => {
      return first?.lease.lease.arena === lease.lease.arena && first.direction === direction;
    });
    const fits = open && open.moves + moves.length <= WORK_BOUNDS.moves && open.bytes + bytes <= BYTES_MAX[direction];
    const run = fits ? open : { carried: [], moves: 0, bytes: 0 };
    if (!fits) runs.push(run);
    run.carried.push(load);
    run.moves += moves.length;
    run.bytes += bytes;
  }
  return runs.map(({ carried }) => carried);
}

async function carry(carried: readonly Load[]): Promise<void> {
  const [first] = carried;
  if (!first) return;
  const work: Work = { [first.direction]: carried.flatMap(({ moves }) => moves) };
  try {
    await first.lease.run(work);
    for (const { resolve } of carried) resolve();
  } catch (error) {
    for (const { reject } of carried) reject(error);
  }
}

const lost = ({ adapter }: GpuLease) =>
  problem('adapter_lost', `${adapter} was lost, and these pages with it. Send the request again.`);
