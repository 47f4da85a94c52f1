// Payloads that lie in packs: read whole, because they are small, and given out only if the frame is the one that was looked
// for, and its checksums are right.
import { problem } from '../contract/problems.ts';
import type { Payload } from './catalog.ts';
import { readHeader, readMeta, readPayload } from './frames.ts';
import type { Packs } from './packs.ts';
import { payloadSchema } from './records.ts';
import type { StoreReader } from './store.ts';

export interface InlineParts {
  readonly packs: Pick<Packs, 'read'>;
  readonly mark: string;
}

export async function readInline(parts: InlineParts, payload: Payload): Promise<StoreReader> {
  const bytes = await payloadBytes(parts, payload);
  return {
    async read(into, position) {
      const part = bytes.subarray(position, position + into.length);
      into.set(part);
      if (part.length < into.length)
        throw problem('record_damaged', `The payload ${payload.digest} ends at byte ${position + part.length}.`);
    },
    async close() {},
  };
}

/** Throws `record_damaged` if it is not what was written. */
export async function payloadBytes({ packs, mark }: InlineParts, payload: Payload): Promise<Uint8Array> {
  for (;;) {
    const { place } = payload;
    const frame = await packs.read(place).catch((error: unknown) => {
      if (payload.place === place) throw error;
      return undefined; // compaction has moved it meanwhile
    });
    if (!frame) continue;
    const header = readHeader(frame, 0, mark);
    const meta = header && payloadSchema.safeParse(readMeta(frame, 0, header)).data;
    const isIt = meta?.tenant === payload.tenant && meta.digest === payload.digest && header?.seq === place.seq;
    const bytes = isIt && header ? readPayload(frame, 0, header) : undefined;
    if (bytes) return bytes;
    throw problem(
      'record_damaged',
      `The payload ${payload.digest} cannot be read in pack ${place.pack} at ${place.at}.`,
    );
  }
}
