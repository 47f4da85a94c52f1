// Reads the frames of a pack in their order, from a position to the end. What does not read is skipped up to the next frame
// that bears the mark, and told as a hole. The last group may be torn by a loss of power: if it has a hole, it was never
// answered, and none of it is given out. Payloads are skipped unless they are to be verified.
import { type DiskFile, readAll } from './disk.ts';
import { type FrameHeader, HEADER_BYTES, MAGIC_BYTES, readHeader, readMeta, readPayload } from './frames.ts';

const WINDOW_BYTES = 1 << 20;
const ALIGNMENT = 8;

export interface Seen {
  readonly header: FrameHeader;
  readonly meta: unknown;
  readonly at: number;
}

export interface Hole {
  readonly from: number;
  readonly to: number;
}

export interface Scanned {
  /** Behind it is nothing that counts: `size`, or where a torn group begins. */
  readonly end: number;
  /** Before `end`. */
  readonly holes: readonly Hole[];
}

export interface ScanOptions {
  readonly file: DiskFile;
  readonly from: number;
  readonly size: number;
  readonly mark: string;
  readonly payloads: 'verify' | 'skip';
  readonly take: (seen: Seen) => void;
}

export async function scanFrames(options: ScanOptions): Promise<Scanned> {
  const { file, size, mark, take } = options;
  let window = Buffer.alloc(0);
  let windowAt = 0;
  /** Where the file ends, if that is before `size`. */
  let fileEnd = size;

  /** At least these bytes, or all that there are; where they begin in the window. */
  async function look(at: number, bytes: number): Promise<number> {
    const wanted = Math.min(bytes, size - at);
    if (at < windowAt || at + wanted > windowAt + window.length) {
      const fresh = Buffer.allocUnsafe(Math.min(Math.max(bytes, WINDOW_BYTES), size - at));
      window = fresh.subarray(0, await readAll(file, fresh, at));
      windowAt = at;
      if (window.length < fresh.length) fileEnd = at + window.length;
    }
    return at - windowAt;
  }

  async function frameAt(at: number): Promise<Seen | undefined> {
    const headerAt = await look(at, HEADER_BYTES);
    const header = readHeader(window, headerAt, mark);
    if (!header || at + header.length > size) return undefined;
    const verify = options.payloads === 'verify';
    const inWindow = await look(at, verify ? header.length : HEADER_BYTES + header.metaBytes);
    const meta = readMeta(window, inWindow, header);
    if (meta === undefined || (verify && !readPayload(window, inWindow, header))) return undefined;
    return { header, meta, at };
  }

  /** The next place behind `at` where a frame begins; `size` if there is none. */
  async function nextFrame(at: number): Promise<number> {
    for (let next = at + ALIGNMENT; next < fileEnd; ) {
      const inWindow = await look(next, HEADER_BYTES);
      const found = window.indexOf(MAGIC_BYTES, inWindow);
      const windowEnd = windowAt + window.length;
      if (found < 0)
        next =
          windowEnd < fileEnd ? Math.max(next + ALIGNMENT, Math.floor((windowEnd - 3) / ALIGNMENT) * ALIGNMENT) : size;
      else {
        next = Math.ceil((windowAt + found) / ALIGNMENT) * ALIGNMENT;
        if (await frameAt(next)) return next;
        next += ALIGNMENT;
      }
    }
    return size;
  }

  const holes: Hole[] = [];
  /** Frames of the group that may be the last one. */
  let group: Seen[] = [];
  let groupAt = options.from;
  let at = options.from;
  while (at < size) {
    const seen = await frameAt(at);
    if (seen) {
      if (at - seen.header.back !== groupAt) {
        group.forEach(take);
        group = [];
        groupAt = at - seen.header.back;
      }
      group.push(seen);
      at += seen.header.length;
    } else {
      const to = await nextFrame(at);
      holes.push({ from: at, to });
      at = to;
    }
  }
  // Whole frames before a tear at the end may have been answered; none of a group with a hole in it was.
  const torn = holes.at(-1)?.to === size ? holes.pop() : undefined;
  const within = holes.at(-1);
  if (within && within.from >= groupAt) return { end: groupAt, holes: holes.filter(({ from }) => from < groupAt) };
  group.forEach(take);
  return { end: torn?.from ?? size, holes };
}
