// Payloads that somebody doubts: each is read again, and if it is wrong then too, it is set aside for a person to look at, its
// keys are named, and `damaged` is told of them, who may have the bytes elsewhere. What reads well the second time was a
// fault of the moment, and nothing happens to it.
import { type Catalog, heldBy, type Payload } from './catalog.ts';
import type { KeyedLock } from './keyed-lock.ts';
import type { Packs } from './packs.ts';
import type { PayloadFiles } from './payload-files.ts';
import { payloadName, type StoredRecord } from './records.ts';

export interface Quarantine {
  readonly counts: { suspected: number; setAside: number };
  /** At once, whoever stores the same bytes replaces it; later, it is set aside if it is wrong. */
  suspect(payload: Payload): void;
  settle(): Promise<void>;
}

export interface QuarantineOptions {
  readonly catalog: Catalog;
  readonly files: PayloadFiles;
  readonly packs: Packs;
  readonly locks: KeyedLock;
  readonly isWhole: (payload: Payload) => Promise<boolean>;
  readonly damaged: (record: StoredRecord) => void;
  readonly log: (line: string) => void;
}

export function createQuarantine({ catalog, files, packs, locks, log, ...o }: QuarantineOptions): Quarantine {
  const counts = { suspected: 0, setAside: 0 };
  const looking = new Set<Promise<void>>();

  async function judge(payload: Payload): Promise<void> {
    const { tenant, digest, place } = payload;
    if (!payload.damaged || catalog.payload(tenant, digest) !== payload) return; // replaced, or gone
    if (await o.isWhole(payload)) {
      if (payload.place === place) payload.damaged = false;
      return;
    }
    counts.setAside++;
    for (const { record } of heldBy(payload)) {
      log(`damaged on disk: ${record.tenant}/${record.key}; what is there is set aside in quarantine/`);
      o.damaged(record);
    }
    if (payload.inline) await files.writeAside(`${place.pack}-${place.at}.frame`, await packs.read(place));
    else if (files.sizeOf(tenant, digest) >= 0) await files.setAside(files.path(tenant, digest));
  }

  return {
    counts,
    suspect(payload) {
      if (payload.damaged) return;
      payload.damaged = true;
      counts.suspected++;
      const looked: Promise<void> = locks
        .run(payloadName(payload.tenant, payload.digest), () => judge(payload))
        .catch((error: unknown) => log(`a damaged payload stays where it is: ${String(error)}`))
        .finally(() => looking.delete(looked));
      looking.add(looked);
    },
    settle: () => Promise.all(looking).then(() => {}),
  };
}
