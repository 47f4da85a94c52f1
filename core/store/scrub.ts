// Looks for damage before somebody asks for the bytes: reads all that is held again and again, at a set pace. A record whose
// frame does not read is written again, it is known; a payload that is wrong, when read twice, is set aside, and its keys are
// told by name. Whoever stores the same bytes mends it.
import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Problem } from '../contract/problems.ts';
import type { Catalog, Held, Payload } from './catalog.ts';
import type { Disk } from './disk.ts';
import { readHeader, readMeta } from './frames.ts';
import { payloadBytes } from './inline.ts';
import type { Packs } from './packs.ts';
import type { PayloadFiles } from './payload-files.ts';

const READ_BYTES = 1 << 20;
/** Between two rounds, however little there is to read. */
const REST_MS = 60_000;

export interface Scrub {
  readonly counts: { rounds: number; bytes: number; failed: number };
  /** Everything once, at the set pace. */
  round(): Promise<void>;
  /** Ends at the next megabyte. */
  close(): Promise<void>;
}

export interface ScrubOptions {
  readonly disk: Disk;
  readonly mark: string;
  readonly catalog: Catalog;
  readonly packs: Packs;
  readonly files: PayloadFiles;
  /** 0: never by itself. */
  readonly bytesPerSecond: number;
  readonly suspect: (payload: Payload) => void;
  readonly rewrite: (held: Held) => Promise<void>;
  readonly log: (line: string) => void;
}

export function createScrub(o: ScrubOptions): Scrub {
  const { catalog, packs, log } = o;
  const counts = { rounds: 0, bytes: 0, failed: 0 };
  const closing = new AbortController();
  const pause = (ms: number) => sleep(ms, undefined, { ref: false, signal: closing.signal }).catch(() => {});
  let owed = 0;
  const running = o.bytesPerSecond > 0 ? goOn() : Promise.resolve();

  async function goOn(): Promise<void> {
    await pause(REST_MS);
    while (!closing.signal.aborted) {
      await round();
      await pause(REST_MS);
    }
  }

  async function paced(bytes: number): Promise<void> {
    closing.signal.throwIfAborted(); // in the midst of a payload, perhaps
    counts.bytes += bytes;
    owed += bytes;
    if (owed < READ_BYTES || o.bytesPerSecond === 0) return;
    const ms = (owed / o.bytesPerSecond) * 1000;
    owed = 0;
    await pause(ms);
  }

  async function lookAt(payload: Payload): Promise<void> {
    try {
      const isWhole = payload.damaged || (await isWholePayload(o, payload, paced));
      if (!isWhole && catalog.payload(payload.tenant, payload.digest) === payload) o.suspect(payload);
    } catch (error) {
      if (closing.signal.aborted) return;
      counts.failed++; // the disk, not the payload: the next round looks again
      if (counts.failed === 1) log(`a payload could not be read to be checked: ${String(error)}`);
    }
  }

  async function lookAtRecord(held: Held): Promise<void> {
    const { place } = held;
    try {
      const frame = await packs.read(place);
      await paced(frame.length);
      const header = readHeader(frame, 0, o.mark);
      const isRight = header?.seq === place.seq && readMeta(frame, 0, header) !== undefined;
      const isHeld = catalog.find(held.record.tenant, held.record.key) === held && held.place === place;
      if (isRight || !isHeld) return;
      log(`the record of ${held.record.tenant}/${held.record.key} does not read in its pack, and is written again`);
      await o.rewrite(held);
    } catch {
      if (!closing.signal.aborted) counts.failed++;
    }
  }

  async function round(): Promise<void> {
    for (const payload of catalog.payloads()) {
      if (closing.signal.aborted) return;
      await lookAt(payload);
    }
    for (const held of catalog.held()) {
      if (closing.signal.aborted) return;
      await lookAtRecord(held);
    }
    counts.rounds++;
  }

  return {
    counts,
    round,
    async close() {
      closing.abort();
      await running;
    },
  };
}

/** Whether its bytes are those of its digest; throws where the disk does not say. */
export async function isWholePayload(
  o: Pick<ScrubOptions, 'disk' | 'mark' | 'packs' | 'files'>,
  payload: Payload,
  paced: (bytes: number) => Promise<void> = async () => {},
): Promise<boolean> {
  const hash = createHash('sha256');
  try {
    if (payload.inline) {
      const bytes = await payloadBytes(o, payload);
      await paced(bytes.length);
      hash.update(bytes);
    } else await hashFile(o, payload, hash, paced);
  } catch (error) {
    const isDamage = error instanceof Problem ? error.code === 'record_damaged' : isMissing(error);
    if (isDamage) return false;
    throw error;
  }
  return hash.digest('hex') === payload.digest;
}

const isMissing = (error: unknown): boolean => (error as NodeJS.ErrnoException).code === 'ENOENT';

async function hashFile(
  { disk, files }: Pick<ScrubOptions, 'disk' | 'files'>,
  { tenant, digest }: Payload,
  hash: ReturnType<typeof createHash>,
  paced: (bytes: number) => Promise<void>,
): Promise<void> {
  const file = await disk.open(files.path(tenant, digest), 'read');
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (let at = 0; ; ) {
      const read = await file.read(buffer, at);
      if (read === 0) return;
      hash.update(buffer.subarray(0, read));
      at += read;
      await paced(read);
    }
  } finally {
    await file.close();
  }
}
