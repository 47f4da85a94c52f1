// A pack that does not read as a whole, before it goes: of what lives in it and does not read, records are written again
// elsewhere, as they are known, and payloads are doubted, which sets aside what is there and names their keys.
import type { Catalog, Held } from './catalog.ts';
import { heldBy } from './catalog.ts';
import type { Quarantine } from './quarantine.ts';

export interface RescueOptions {
  readonly catalog: Catalog;
  readonly quarantine: Pick<Quarantine, 'suspect' | 'settle'>;
  readonly rewrite: (held: Held) => Promise<void>;
}

/** `reads`: positions of frames that do. False if something lives there that must still be looked at. */
export type Rescue = (pack: number, reads: ReadonlySet<number>) => Promise<boolean>;

export function createRescue({ catalog, quarantine, rewrite }: RescueOptions): Rescue {
  return async (pack, reads) => {
    const isMissing = ({ place }: { readonly place: Held['place'] }) => place.pack === pack && !reads.has(place.at);
    for (const held of [...catalog.held()].filter(isMissing)) await rewrite(held);
    const payloads = [...catalog.payloads()].filter(isMissing);
    for (const payload of payloads) {
      const [holder] = heldBy(payload);
      if (payload.inline) quarantine.suspect(payload);
      else if (holder) await rewrite(holder); // says again which file it is
    }
    await quarantine.settle();
    return payloads.every((payload) => !isMissing(payload) || payload.damaged);
  };
}
