// The checksums of pages, made where the pages lie: the kernel `checksum` level by level for many pages in one run, and 16
// bytes of each come back. From ranges to `Work`: nothing is sent here. Levels lie in scratch 0 and 1 by turns, each page
// with a place of its own in both.
import { type ChecksumStep, checksumSteps } from '../../shaders/steps.ts';
import type { Run } from '../gpu/arena.ts';
import { privatePiece } from '../gpu/pieces.ts';
import { SCRATCH_BYTES, scratch, WORK_BOUNDS, type Work, type WorkDispatch, type WorkRange } from '../gpu/work.ts';
import { SEAL_WORDS } from './checksum.ts';
import { inArena } from './coding.ts';
import { aligned } from './pages.ts';

/** Of one run: tenths of a second on a slow adapter, so that others wait no longer. */
const RUN_BYTES_MAX = 128 << 20;

/** A run, and what it gives once it is done: four words for each of its pages, in order. */
export interface Sealing {
  readonly work: Work;
  readonly seals: Uint32Array;
  readonly pages: number;
}

const sealBytes = SEAL_WORDS * 4;

/** Of pages of one adapter, in their order, in as few runs as it takes. */
export function* sealing(pages: readonly Run[]): Generator<Sealing, void, void> {
  for (let first = 0; first < pages.length; ) {
    const some = fitting(pages, first);
    const seals = new Uint32Array(some.length * SEAL_WORDS);
    const piece = privatePiece(new Uint8Array(seals.buffer));
    yield {
      work: {
        dispatches: some.flatMap(({ dispatches }) => dispatches),
        downloads: some.map(({ seal }, i) => ({ piece, from: i * sealBytes, range: seal })),
      },
      seals,
      pages: some.length,
    };
    first += some.length;
  }
}

interface Sealed {
  readonly dispatches: readonly WorkDispatch[];
  readonly seal: WorkRange;
}

/** The pages from `first` on that one run takes; one at least. */
function fitting(pages: readonly Run[], first: number): Sealed[] {
  const found: Sealed[] = [];
  let [offset, dispatches, bytes] = [0, 0, 0];
  for (let i = first; i < pages.length; i++) {
    const page = pages[i];
    if (!page) break;
    const steps = checksumSteps(page.byteLength);
    const place = aligned((steps[0]?.streams ?? 0) * sealBytes);
    dispatches += steps.length;
    bytes += page.byteLength;
    const isFull = dispatches > WORK_BOUNDS.dispatches || offset + place > SCRATCH_BYTES || bytes > RUN_BYTES_MAX;
    if (isFull && found.length > 0) break;
    found.push(sealOf(page, steps, offset));
    offset += place;
  }
  return found;
}

function sealOf(page: Run, steps: readonly ChecksumStep[], offset: number): Sealed {
  let source = inArena(page);
  const dispatches = steps.map((step): WorkDispatch => {
    const target = { at: scratch(step.level % 2), offset, size: step.streams * sealBytes };
    const dispatch: WorkDispatch = { kernel: 'checksum', parameters: { ...step }, bindings: { source, target } };
    source = target;
    return dispatch;
  });
  return { dispatches, seal: source };
}
