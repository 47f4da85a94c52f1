// What is on the disk, and where: records by tenant and key, payloads by tenant and digest, and how many bytes of each pack
// still count. It changes by rows only, the same while serving and when a journal is replayed, and a row that is applied
// again changes nothing: of two that speak of one thing the higher sequence is right, of equal ones the later, which has
// moved it. Bookkeeping only; nothing here touches the disk.
import type { StoredRecord } from './records.ts';

/** Where a frame lies: sequence, pack, position, length. */
export interface Place {
  readonly seq: number;
  readonly pack: number;
  readonly at: number;
  readonly length: number;
}

export interface Payload {
  readonly tenant: string;
  readonly digest: string;
  readonly bytes: number;
  /** Of the frame that brings it, or names its file. */
  place: Place;
  inline: boolean;
  /** Records that need it, and writers that are about to. */
  needed: number;
  /** Its bytes turned out wrong: the next writer of the same ones replaces them. */
  damaged: boolean;
  /** The records that need it: one most often, and then no set is made for it. */
  holders: Held | Set<Held> | undefined;
}

export interface Held {
  readonly record: StoredRecord;
  place: Place;
  readonly payload: Payload;
}

export interface PackCount {
  readonly number: number;
  /** Up to here it is known. */
  end: number;
  /** Bytes of frames that records and payloads lie in. */
  live: number;
  /** Bytes of deletions: they count until nothing older is left that they hide. */
  deletions: number;
  firstSeq: number;
  lastSeq: number;
}

type At = readonly [seq: number, pack: number, at: number, length: number];
/** A change. What it means, and what else stands in it, is said by its first word. */
export type Row =
  | readonly ['put', ...At, record: StoredRecord, ...payload: At, inline: 0 | 1]
  | readonly ['delete', ...At, tenant: string, key: string]
  | readonly ['put moved', ...At, tenant: string, key: string]
  | readonly ['payload moved', ...At, tenant: string, digest: string, inline: 0 | 1]
  | readonly ['pack', number: number, end: number, deletions: number, firstSeq: number, lastSeq: number]
  | readonly ['pack gone', number: number]
  /** Of a checkpoint: all packs up to now have numbers up to this. */
  | readonly ['end', highestPack: number];

export interface Catalog {
  readonly size: number;
  /** Of payloads that records need. */
  readonly bytes: number;
  readonly packs: ReadonlyMap<number, PackCount>;
  /** The highest number that any pack had: none is given twice, or rows of the first would be taken for the second's. */
  readonly highestPack: number;
  find(tenant: string, key: string): Held | undefined;
  payload(tenant: string, digest: string): Payload | undefined;
  held(): Generator<Held, void, void>;
  payloads(): Generator<Payload, void, void>;
  apply(row: Row): void;
  /** A writer is about to need it: it stays. */
  retain(payload: Payload): void;
  release(payload: Payload): void;
  /** What cannot be served is no longer there; its frame stays where it is. */
  forget(held: Held): void;
}

/** The records that need a payload. */
export const heldBy = ({ holders }: Payload): readonly Held[] =>
  holders === undefined ? [] : holders instanceof Set ? [...holders] : [holders];

function hold(held: Held): void {
  const { payload } = held;
  if (payload.holders === undefined) payload.holders = held;
  else if (payload.holders instanceof Set) payload.holders.add(held);
  else payload.holders = new Set([payload.holders, held]);
}

function letGo(held: Held): void {
  const { payload } = held;
  if (payload.holders === held) payload.holders = undefined;
  else if (payload.holders instanceof Set) payload.holders.delete(held);
}

export const atOf = ({ seq, pack, at, length }: Place): At => [seq, pack, at, length];
export const putRow = ({ record, place, payload }: Held): Row => [
  'put',
  ...atOf(place),
  record,
  ...atOf(payload.place),
  payload.inline ? 1 : 0,
];

/** `unneeded` is told of each payload whose last record has gone. */
export function createCatalog(unneeded: (payload: Payload) => void): Catalog {
  const records = new Map<string, Map<string, Held>>();
  const payloads = new Map<string, Map<string, Payload>>();
  const packs = new Map<number, PackCount>();
  let size = 0;
  let bytes = 0;
  let highestPack = 0;

  function packOf(number: number): PackCount {
    const known = packs.get(number);
    if (known) return known;
    const pack: PackCount = { number, end: 0, live: 0, deletions: 0, firstSeq: Number.MAX_SAFE_INTEGER, lastSeq: 0 };
    packs.set(number, pack);
    highestPack = Math.max(highestPack, number);
    return pack;
  }

  function settle(place: Place): void {
    const pack = packOf(place.pack);
    pack.live += place.length;
    reach(pack, place);
  }
  function reach(pack: PackCount, { seq, at, length }: Place): void {
    pack.end = Math.max(pack.end, at + length);
    pack.firstSeq = Math.min(pack.firstSeq, seq);
    pack.lastSeq = Math.max(pack.lastSeq, seq);
  }
  function leave({ pack, length }: Place): void {
    const left = packs.get(pack);
    if (left) left.live -= length;
  }
  function move(thing: { place: Place }, place: Place): void {
    leave(thing.place);
    settle(place);
    thing.place = place;
  }

  function payloadFor({ tenant, digest, bytes: length }: StoredRecord, place: Place, inline: boolean): Payload {
    const mine = ofTenant(payloads, tenant);
    const known = mine.get(digest);
    if (known) {
      if (place.seq > known.place.seq) {
        move(known, place);
        known.inline = inline;
        known.damaged = false;
      } else reach(packOf(place.pack), place);
      return known;
    }
    const payload: Payload = {
      tenant,
      digest,
      bytes: length,
      place,
      inline,
      needed: 0,
      damaged: false,
      holders: undefined,
    };
    mine.set(digest, payload);
    settle(place);
    bytes += length;
    return payload;
  }

  function release(payload: Payload): void {
    if (--payload.needed > 0) return;
    dropFrom(payloads, payload.tenant, payload.digest);
    leave(payload.place);
    bytes -= payload.bytes;
    unneeded(payload);
  }

  function put(record: StoredRecord, place: Place, payloadPlace: Place, inline: boolean): void {
    const mine = ofTenant(records, record.tenant);
    const before = mine.get(record.key);
    if (before && before.place.seq >= place.seq) {
      if (before.place.seq === place.seq) move(before, place);
      else reach(packOf(place.pack), place);
      return;
    }
    const payload = payloadFor(record, payloadPlace, inline);
    payload.needed++;
    const held = { record, place, payload };
    mine.set(record.key, held);
    hold(held);
    settle(place);
    if (before) {
      leave(before.place);
      letGo(before);
      release(before.payload);
    } else size++;
  }

  function remove(held: Held): void {
    dropFrom(records, held.record.tenant, held.record.key);
    leave(held.place);
    size--;
    letGo(held);
    release(held.payload);
  }

  return {
    get size() {
      return size;
    },
    get bytes() {
      return bytes;
    },
    packs,
    get highestPack() {
      return highestPack;
    },
    find: (tenant, key) => records.get(tenant)?.get(key),
    payload: (tenant, digest) => payloads.get(tenant)?.get(digest),
    *held() {
      for (const mine of records.values()) yield* mine.values();
    },
    *payloads() {
      for (const mine of payloads.values()) yield* mine.values();
    },
    apply(row) {
      switch (row[0]) {
        case 'put': {
          // By number: a start does this a million times.
          const place = { seq: row[1], pack: row[2], at: row[3], length: row[4] };
          const payloadPlace = { seq: row[6], pack: row[7], at: row[8], length: row[9] };
          return put(row[5], place, payloadPlace, row[10] === 1);
        }
        case 'delete': {
          const [, seq, pack, at, length, tenant, key] = row;
          const count = packOf(pack);
          count.deletions += length;
          reach(count, { seq, pack, at, length });
          const held = records.get(tenant)?.get(key);
          if (held && held.place.seq < seq) remove(held);
          return;
        }
        case 'put moved': {
          const [, seq, pack, at, length, tenant, key] = row;
          const held = records.get(tenant)?.get(key);
          reach(packOf(pack), { seq, pack, at, length });
          if (held?.place.seq === seq) move(held, { seq, pack, at, length });
          return;
        }
        case 'payload moved': {
          const [, seq, pack, at, length, tenant, digest, inline] = row;
          const payload = payloads.get(tenant)?.get(digest);
          reach(packOf(pack), { seq, pack, at, length });
          if (!payload || payload.place.seq > seq) return;
          if (payload.place.seq < seq) payload.damaged = false;
          move(payload, { seq, pack, at, length });
          payload.inline = inline === 1;
          return;
        }
        case 'pack': {
          const [, number, end, deletions, firstSeq, lastSeq] = row;
          const pack = packOf(number);
          pack.end = Math.max(pack.end, end);
          pack.deletions += deletions;
          pack.firstSeq = Math.min(pack.firstSeq, firstSeq);
          pack.lastSeq = Math.max(pack.lastSeq, lastSeq);
          return;
        }
        case 'pack gone':
          return void packs.delete(row[1]);
        case 'end':
          highestPack = Math.max(highestPack, row[1]);
      }
    },
    retain(payload) {
      payload.needed++;
    },
    release,
    forget: remove,
  };
}

function ofTenant<T>(all: Map<string, Map<string, T>>, tenant: string): Map<string, T> {
  const known = all.get(tenant);
  if (known) return known;
  const mine = new Map<string, T>();
  all.set(tenant, mine);
  return mine;
}

function dropFrom<T>(all: Map<string, Map<string, T>>, tenant: string, name: string): void {
  const mine = all.get(tenant);
  mine?.delete(name);
  if (mine?.size === 0) all.delete(tenant);
}
