// Which packs are worth compacting, and which deletions still hide something, by what is counted of packs. Pure.
import type { PackCount } from './catalog.ts';

/** Of a pack's own first frame, give or take. */
export const HEAD_BYTES = 128;
const SMALL_MAX = 16;
/** The part of a pack that has to be dead; a smaller one where room is short. */
const DEAD_OF = { usual: 2, short: 4 };

export interface ChoiceOptions {
  /** Of which some may be compacted. */
  readonly packs: readonly PackCount[];
  readonly mayHide: MayHide;
  readonly packBytesMax: number;
  /** Bytes that may be written. */
  readonly room: number;
  readonly isShort: boolean;
}

/** Whether a deletion with a sequence may hide something outside of its own pack. */
export type MayHide = (seq: number, own: number) => boolean;

const deadIn = ({ end, live, deletions }: PackCount): number => end - live - deletions - HEAD_BYTES;
const keptOf = ({ live, deletions }: PackCount): number => live + deletions;

/** As packs are now: dead frames that are older may be anywhere in a pack that has any. */
export function hiding(packs: Iterable<PackCount>): MayHide {
  let oldest: PackCount | undefined;
  let second: PackCount | undefined;
  for (const pack of packs) {
    if (deadIn(pack) <= 0) continue;
    if (!oldest || pack.firstSeq < oldest.firstSeq) [oldest, second] = [pack, oldest];
    else if (!second || pack.firstSeq < second.firstSeq) second = pack;
  }
  return (seq, own) => ((oldest?.number === own ? second : oldest)?.firstSeq ?? seq) < seq;
}

/** Together they become no more than one pack, but for one that is larger alone. */
export function choosePacks({ packs, mayHide, packBytesMax, room, isShort }: ChoiceOptions): PackCount[] {
  const small = packs.filter(({ end }) => end < packBytesMax / 16);
  const wasteful = packs.filter((pack) => {
    const idle = mayHide(pack.lastSeq, pack.number) ? 0 : pack.deletions;
    return deadIn(pack) + idle > pack.end / DEAD_OF[isShort ? 'short' : 'usual'];
  });
  const deletions = packs.reduce((sum, pack) => sum + pack.deletions, 0);
  const total = packs.reduce((sum, { end }) => sum + end, 0);
  // Deletions pile up behind an old pack with a little that is dead: that one goes first.
  const blocking =
    deletions > packBytesMax / 16 && deletions > total / 4 ? packs.filter((pack) => deadIn(pack) > 0) : [];
  const wanted = [...new Set([...wasteful, ...blocking.slice(0, 2), ...(small.length > SMALL_MAX ? small : [])])];
  let bytes = 0;
  return wanted
    .sort((a, b) => (room < packBytesMax ? keptOf(a) - keptOf(b) : a.number - b.number))
    .filter((pack) => {
      const fits = bytes === 0 || bytes + keptOf(pack) <= packBytesMax;
      if (!fits || bytes + keptOf(pack) + HEAD_BYTES > room) return false;
      bytes += keptOf(pack);
      return true;
    });
}
