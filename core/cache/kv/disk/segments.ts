// Segments of records within a budget: written one after the other, filled to the end, and dropped as a whole, the oldest first. Of one that
// is dropped, records are copied behind the last where nothing else has the block, and it came back since they were written, or
// blocks follow it that stay: half of a segment at most. The others' blocks are forgotten. One that is mostly of tenants within their
// fair share, while another has more than that, of what others follow, or of what somebody holds, stays for another round. What a block has lost here is wiped: no
// start finds it again.
// Invariants: files never take more than the budget, whatever fails; a place is a block's once its record is written; one thing is
// written at a time. A disk that refuses is asked again after a while, to wipe too, and what has no room is not written.
import { setImmediate } from 'node:timers/promises';
import { type Form, sameForm } from '../../../codec/pages.ts';
import { problem } from '../../../contract/problems.ts';
import type { KvBlock } from '../held.ts';
import type { Households } from '../households.ts';
import type { Extent, FoundSegment, SegmentFiles, Span } from './files.ts';
import { type Encoded, lineOf, rootLineOf, tokensText } from './format.ts';

const SEGMENT_BYTES_MAX = 64 << 20;
/** Of the budget. */
const SEGMENTS_MIN = 16;
/** Lines of one segment are read and written at once. */
const SEGMENT_RECORDS_MAX = 4096;
/** A record larger than this part of the budget is not written. */
const RECORD_SHARE_MAX = 1 / 4;
const WRITE_BYTES = 8 << 20;
const RETRY_MS = 1000;

export interface Segment {
  readonly number: number;
  /** Of its files, with what is about to be written. */
  end: Extent;
  readonly live: Set<KvBlock>;
  liveBytes: number;
  /** By hash, of those whose lines are there. */
  readonly roots: Map<string, number>;
  records: number;
  /** To be wiped. */
  lost: Span[];
  /** Its lines are not what they should be. */
  isStale: boolean;
}

/** What a block has on disk. */
export interface Place extends Span {
  readonly segment: Segment;
  readonly sum: number;
  readonly form: Form;
  /** The block came back by it. */
  used: boolean;
}

export interface SegmentsOptions {
  readonly files: SegmentFiles;
  readonly bytesMax: number;
  /** Of that, for one tenant. */
  readonly quota: number;
  readonly households: Pick<Households, 'account' | 'bytesOf' | 'tenantsIn'>;
  readonly found: readonly FoundSegment[];
  readonly tenantsOf: (block: KvBlock) => readonly string[];
  /** A block that is nowhere else, with what follows it. */
  readonly forget: (block: KvBlock) => void;
  /** It has a place, another, or none any more. */
  readonly changed: (block: KvBlock) => void;
  readonly following: (block: KvBlock) => Iterable<KvBlock>;
  /** A record as it is, looked through; undefined where it is not what it was. */
  readonly readRaw: (block: KvBlock, place: Place) => Promise<Uint8Array<ArrayBuffer> | undefined>;
  readonly log: (line: string) => void;
}

interface Pending {
  readonly segment: Segment;
  readonly from: Extent;
  readonly chunks: Uint8Array[];
  readonly lines: Buffer[];
  readonly taken: Map<KvBlock, { readonly place: Place; readonly instead: Place | undefined }>;
}

export type Segments = ReturnType<typeof createSegments>;

export function createSegments(options: SegmentsOptions) {
  const { files, bytesMax, quota, households, tenantsOf, forget, changed, following, readRaw, log } = options;
  const segmentBytes = Math.min(SEGMENT_BYTES_MAX, Math.floor(bytesMax / SEGMENTS_MIN));
  /** For what is copied before its segment is gone, and lines that grow. */
  const slack = Math.floor(segmentBytes / 2);
  const count = { written: 0, writtenBytes: 0, copied: 0, evictions: 0, failures: 0, refused: 0 };
  /** The oldest first. */
  const segments = options.found.map(({ number, end }) => newSegment(number, end));
  let bytes = segments.reduce((sum, { end }) => sum + end.data + end.index, 0);
  let bytesMost = bytes;
  let records = 0;
  let number = segments.at(-1)?.number ?? 0;
  let active: Segment | undefined;
  let pending: Pending | undefined;
  /** On its way to the files. */
  let appending: Pending | undefined;
  let refusedUntil = 0;
  let turn: Promise<unknown> = Promise.resolve();
  let tidying: Promise<void> | undefined;
  let retry: NodeJS.Timeout | undefined;

  /** One after the other. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = turn.then(work);
    turn = mine.catch(() => {});
    return mine;
  }

  function grow(segment: Segment, data: number, index: number): void {
    segment.end = { data: segment.end.data + data, index: segment.end.index + index };
    bytes += data + index;
    bytesMost = Math.max(bytesMost, bytes);
  }

  function failed(what: string, error: unknown): void {
    count.failures++;
    if (performance.now() >= refusedUntil) log(`KV on disk: ${what}: ${String(error)}`);
    refusedUntil = performance.now() + RETRY_MS;
  }

  // ---- places

  function setPlace(block: KvBlock, place: Place | undefined): void {
    const { disk: old, tenant } = block.kept;
    if (place) households.account(tenant, 'disk', place.bytes);
    if (old) {
      old.segment.live.delete(block);
      old.segment.liveBytes -= old.bytes;
      records--;
    }
    block.kept.disk = place;
    if (place) {
      place.segment.live.add(block);
      place.segment.liveBytes += place.bytes;
      records++;
    }
    changed(block);
    if (old) households.account(tenant, 'disk', -old.bytes);
  }

  /** Done for a tenant that has so many bytes by then: the index asks whose a block is as soon as it comes. */
  function having<T>(tenant: string, own: number, act: () => T): T {
    households.account(tenant, 'disk', own);
    const done = act();
    households.account(tenant, 'disk', -own);
    return done;
  }

  function lose(segment: Segment, span: Span): void {
    segment.lost.push(span);
    tidySoon();
  }

  function drop(block: KvBlock): void {
    const place = block.kept.disk;
    if (!place) return;
    setPlace(block, undefined);
    lose(place.segment, place);
  }

  // ---- writing

  function linesFor(block: KvBlock, place: Place, roots: Map<string, number>): Buffer[] {
    const { hash, root, parent, tokens, kept, priority, expiresAt } = block;
    const key = root.hash.toString('hex');
    const known = roots.get(key);
    const at = known ?? roots.size;
    roots.set(key, at);
    const line = lineOf({
      ...{ block: hash, root: at, parent: parent?.hash ?? null, tokens: tokensText(tokens) },
      ...{ at: place.at, bytes: place.bytes, sum: place.sum, form: place.form },
      grades: { k: kept.grades.k ?? null, v: kept.grades.v ?? null },
      ...{ priority, expiresAt: Number.isFinite(expiresAt) ? expiresAt : null },
      ...{ tenant: kept.tenant, tenants: [...tenantsOf(block)] },
    });
    return known === undefined ? [lineOf(rootLineOf(at, root)), line] : [line];
  }

  /** At most. */
  const lineBytes = (block: KvBlock, record: Encoded, form: Form): number => {
    const place = { ...record, segment: newSegment(0), at: Number.MAX_SAFE_INTEGER, form, used: false };
    return linesFor(block, place, new Map()).reduce((sum, { length }) => sum + length, 0);
  };

  /** Behind the last; there is room. */
  async function add(block: KvBlock, record: Encoded, form: Form, instead?: Place): Promise<void> {
    const isFull = (own: Segment) =>
      own.records > 0 && (own.end.data + record.bytes > segmentBytes || own.records >= SEGMENT_RECORDS_MAX);
    if (active && isFull(active)) {
      await flush();
      active = undefined;
    }
    if (!active) {
      active = newSegment(++number);
      segments.push(active);
    }
    const segment = active;
    pending ??= { segment, from: segment.end, chunks: [], lines: [], taken: new Map() };
    const place = { segment, at: segment.end.data, bytes: record.bytes, sum: record.sum, form, used: false };
    const lines = linesFor(block, place, segment.roots);
    pending.chunks.push(...record.chunks);
    pending.lines.push(...lines);
    pending.taken.set(block, { place, instead });
    segment.records++;
    const own = lines.reduce((sum, { length }) => sum + length, 0);
    grow(segment, record.bytes, own);
    if (segment.end.data - pending.from.data >= WRITE_BYTES) await flush();
  }

  /** What did not get there is nobody's; it counts until its segment goes. */
  async function flush(): Promise<void> {
    if (!pending) return;
    const { segment, from, chunks, lines, taken } = pending;
    appending = pending;
    pending = undefined;
    try {
      await files.append(segment.number, from, chunks, Buffer.concat(lines));
    } catch (error) {
      failed('a write failed', error);
      segment.isStale = true;
      active = undefined;
      return tidySoon();
    } finally {
      appending = undefined;
    }
    if (segment.isStale) tidySoon();
    for (const [block, { place, instead }] of taken) {
      const { hot, cold, disk } = block.kept;
      const form = (hot ?? cold)?.form ?? place.form;
      if (block.removed || disk !== instead || !sameForm(form, place.form)) {
        lose(segment, place);
        continue;
      }
      setPlace(block, place);
      if (instead) lose(instead.segment, instead); // its segment may stay for a while
      count.written++;
      count.writtenBytes += place.bytes;
    }
  }

  async function writeAll(given: readonly { block: KvBlock; form: Form; encode: () => Encoded }[]): Promise<void> {
    for (const { block, form, encode } of given) {
      if (performance.now() < refusedUntil) break;
      if (block.removed || block.kept.disk || pending?.taken.has(block)) continue;
      const record = encode();
      const wanted = record.bytes + lineBytes(block, record, form);
      const own = households.bytesOf(block.kept.tenant, 'disk') + wanted;
      const isAllowed = record.bytes <= RECORD_SHARE_MAX * bytesMax && own <= quota * bytesMax;
      const fits = isAllowed && (await makeRoom(wanted));
      if (fits && !block.removed) await add(block, record, form);
      else count.refused++;
    }
    await flush();
  }

  // ---- leaving

  async function makeRoom(wanted: number): Promise<boolean> {
    // in the first round nobody gives who is within its share
    for (let tries = 2 * segments.length; bytes + wanted > bytesMax - slack; tries--)
      if (tries <= 0 || !(await dropOldest(tries > segments.length))) return false;
    return true;
  }

  async function dropOldest(isFair: boolean): Promise<boolean> {
    await flush();
    await setImmediate(); // many may have to be looked at, and others have their turn meanwhile
    const [oldest] = segments;
    if (!oldest) return false;
    if (oldest === active) active = undefined;
    const kept = worth(oldest, isFair);
    if (!kept) {
      segments.push(...segments.splice(0, 1)); // another one
      return true;
    }
    const { failures } = count;
    for (const block of kept) {
      const place = block.kept.disk;
      const raw = place?.segment === oldest ? await readRaw(block, place) : undefined;
      if (!place || !raw || block.removed || block.kept.disk !== place) continue;
      await add(block, { chunks: [raw], bytes: place.bytes, sum: place.sum }, place.form, place);
      count.copied++;
    }
    await flush();
    if (count.failures > failures) return false;
    if ([...oldest.live].some((block) => block.holders > 0 && isAlone(block))) return true; // somebody came for it meanwhile
    letGo(oldest);
    return remove(oldest);
  }

  function letGo(segment: Segment): void {
    for (const block of [...segment.live]) {
      if (block.kept.disk?.segment !== segment) continue; // it went with one before it
      if (!isAlone(block)) {
        drop(block); // its segment may refuse to go
        continue;
      }
      count.evictions++;
      forget(block); // and with it its place
    }
  }

  async function remove(segment: Segment): Promise<boolean> {
    try {
      await files.remove(segment.number);
    } catch (error) {
      failed('a segment could not be removed', error);
      return false;
    }
    segments.splice(segments.indexOf(segment), 1);
    bytes -= segment.end.data + segment.end.index;
    if (active === segment) active = undefined;
    return true;
  }

  /** Undefined where more has to stay than may be copied. */
  function worth(segment: Segment, isFair: boolean): KvBlock[] | undefined {
    const found = new Set<KvBlock>();
    const tenants = households.tenantsIn('disk');
    const bytesOf = (tenant: string) => households.bytesOf(tenant, 'disk');
    const share = tenants.reduce((sum, tenant) => sum + bytesOf(tenant), 0) / tenants.length;
    const followed = new Set<KvBlock>();
    const isFollowed = (block: KvBlock): boolean => {
      for (const next of following(block))
        if (!segment.live.has(next) || found.has(next) || !isAlone(next)) return true;
      return false;
    };
    const hasToStay = (block: KvBlock) =>
      block.holders > 0 || (isFair && (followed.has(block) || bytesOf(block.kept.tenant) < share));
    const alone = [...segment.live].filter(isAlone);
    for (const block of alone.sort((a, b) => b.index - a.index)) {
      if (isFollowed(block)) followed.add(block);
      if (followed.has(block) || hasToStay(block) || block.kept.disk?.used) found.add(block);
    }
    let room = Math.min(slack / 2, (segment.end.data + segment.end.index) / 2, bytesMax - bytes);
    const inOrder = [...found].sort((a, b) => Number(hasToStay(b)) - Number(hasToStay(a)) || a.index - b.index);
    const chosen = inOrder.filter((block) => {
      const place = block.kept.disk;
      if (!place || place.bytes > room) return false;
      const own = place.bytes + lineBytes(block, { ...place, chunks: [] }, place.form);
      if (own > room) return false;
      room -= own;
      return true;
    });
    const isChosen = new Set(chosen);
    return alone.every((block) => !hasToStay(block) || isChosen.has(block)) ? chosen : undefined;
  }

  // ---- wiping

  function tidySoon(): void {
    tidying ??= setImmediate()
      .then(() => {
        tidying = undefined;
        return inTurn(tidy);
      })
      .catch(() => {}); // told to who waits for it; tried again after a while
  }

  async function tidy(): Promise<void> {
    await flush();
    let first: unknown;
    for (const segment of segments.filter(({ lost, isStale }) => lost.length > 0 || isStale))
      await wipe(segment).catch((error: unknown) => {
        first ??= error;
      });
    if (first === undefined) return;
    if (!retry) retry = setTimeout(again, RETRY_MS).unref();
    throw first;
  }

  function again(): void {
    retry = undefined;
    tidySoon();
  }

  /** A segment that refuses goes as a whole. */
  async function wipe(segment: Segment): Promise<void> {
    const { lost } = segment;
    segment.lost = [];
    segment.isStale = false; // what is noted from now on is for the next time
    const roots = new Map<string, number>();
    const lines = Buffer.concat(
      [...segment.live].flatMap((block) => (block.kept.disk ? linesFor(block, block.kept.disk, roots) : [])),
    );
    const more = lines.length - segment.end.index;
    if (segment.live.size > 0 && bytes + more <= bytesMax) {
      try {
        await files.wipe(segment.number, segment.end, lines, lost);
        segment.roots.clear();
        for (const [key, at] of roots) segment.roots.set(key, at);
        return grow(segment, 0, more);
      } catch (error) {
        failed('what was forgotten could not be wiped', error);
      }
    }
    letGo(segment);
    if (await remove(segment)) return;
    segment.lost = [...segment.lost, ...lost];
    segment.isStale = true;
    throw problem(
      'disk_failed',
      `What was forgotten could not be taken off the disk. It is tried again; until then a restart could find it.`,
    );
  }

  return {
    segments: segments as readonly Segment[],
    get bytes() {
      return bytes;
    },
    get bytesMost() {
      return bytesMost;
    },
    get records() {
      return records;
    },
    count,
    /** Records for those that have none. */
    write: (given: Parameters<typeof writeAll>[0]) => inTurn(() => writeAll(given)),
    setPlace,
    having,
    drop,
    /** Who has stored it is not what its line says. */
    noted(block: KvBlock): void {
      const own = [block.kept.disk, pending?.taken.get(block)?.place, appending?.taken.get(block)?.place];
      for (const place of own) if (place) place.segment.isStale = true;
      if (own.some(Boolean)) tidySoon();
    },
    tidySoon,
    /** All that is lost is off the disk; throws where that failed. */
    wiped: () => inTurn(tidy),
    async settled(): Promise<void> {
      while (tidying) await tidying;
      await turn;
    },
    faults(): string[] {
      const sum = segments.reduce((all, { end }) => all + end.data + end.index, 0);
      const live = segments.reduce((all, segment) => all + segment.live.size, 0);
      return [
        ...(sum === bytes ? [] : [`${bytes} bytes of KV on disk are counted, and its segments have ${sum}`]),
        ...(bytes <= bytesMax ? [] : [`KV has ${bytes} bytes on disk of ${bytesMax}`]),
        ...(live === records ? [] : [`${records} records are counted, and segments have ${live}`]),
      ];
    },
  };
}

/** It has its record, and nothing else. */
const isAlone = ({ kept }: KvBlock): boolean => !kept.hot && !kept.cold;

export const newSegment = (number: number, end: Extent = { data: 0, index: 0 }): Segment => ({
  ...{ number, end, live: new Set<KvBlock>(), liveBytes: 0, roots: new Map<string, number>(), records: 0 },
  ...{ lost: [], isStale: false },
});
