// Erasures, one at a time: what is asked for is written down (DATA_DIR/erasures/<id>.json), then removed place by place, then a
// receipt is signed and kept, and the note of what was asked is gone. A process that ends in between leaves the note, and the next
// start goes through all places again before it serves anything. What is written while it goes on is not meant; what was held
// when it began is gone from every place when the receipt is there.
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import type { SignedReceipt } from '../contract/erasure.ts';
import { parseJson } from '../contract/json.ts';
import { problem } from '../contract/problems.ts';
import { readWhole, realDisk, replaceWhole } from '../store/disk.ts';
import { type Receipts, whatOf } from './receipts.ts';
import { added, type Counts, type ErasureScope, type Place } from './scope.ts';

const FAILED_MAX = 1000;
const ID = /^[0-9a-f]{32}$/;

const noteSchema = z.object({
  id: z.string().regex(ID),
  scope: z.object({
    tenant: z.string(),
    whole: z.boolean(),
    model: z.string().optional(),
    salt: z.string().optional(),
    prefix: z.string().optional(),
  }),
  by: z.string(),
  askedAt: z.string(),
  places: z.record(z.string(), z.record(z.string(), z.number())),
});
type Note = z.infer<typeof noteSchema>;

export interface Found {
  readonly id: string;
  /** Whose. */
  readonly tenant: string;
  readonly state: 'running' | 'failed' | 'done';
  readonly why?: string;
  readonly signed?: SignedReceipt;
}

export interface Erasures {
  /** Written down when it resolves; `done` follows. */
  begin(scope: ErasureScope, by: string): Promise<{ readonly id: string; readonly done: Promise<SignedReceipt> }>;
  find(id: string): Promise<Found | undefined>;
  /** Of a start: what had begun is done, or said to be left. */
  finish(): Promise<void>;
  close(): Promise<void>;
}

export interface ErasuresOptions {
  readonly dataDir: string;
  /** In this order. */
  readonly places: readonly Place[];
  readonly receipts: Receipts;
  /** No backup is made, restored or read meanwhile. */
  readonly alone: <T>(work: () => Promise<T>) => Promise<T>;
  readonly audit: (line: {
    action: string;
    actor: string;
    tenant: string;
    subject: string;
    detail: Counts;
  }) => Promise<unknown>;
  readonly now: () => number;
  readonly log: (line: string) => void;
  /** A test may end the process here. */
  readonly reached?: (point: string) => void;
}

export async function openErasures(o: ErasuresOptions): Promise<Erasures> {
  const { places, receipts, log, reached = () => {} } = o;
  const folder = join(o.dataDir, 'erasures');
  await realDisk.makeFolder(folder);
  const failed = new Map<string, { tenant: string; why: string }>();
  let running: { readonly id: string; readonly tenant: string; readonly done: Promise<unknown> } | undefined;
  let isClosing = false;

  const pathOf = (id: string) => join(folder, `${id}.json`);
  const write = (note: Note) => replaceWhole(realDisk, pathOf(note.id), Buffer.from(JSON.stringify(note)));

  async function note(action: string, { id, by, scope }: Note, detail: Counts = {}): Promise<void> {
    await o
      .audit({ action, actor: by, tenant: scope.tenant, subject: id, detail })
      .catch((error: unknown) => log(`not in the audit log: ${action} ${id} (${String(error)})`));
  }

  async function carryOut(asked: Note): Promise<SignedReceipt> {
    const { id, scope, by, askedAt } = asked;
    const counts: Record<string, Record<string, number>> = { ...asked.places };
    for (const place of places) {
      if (isClosing) throw problem('stopping', 'The server stops. The next start goes on with the erasure.');
      counts[place.name] = added(counts[place.name] ?? {}, await place.erase(scope));
      await write({ ...asked, places: counts });
      reached(`erased from ${place.name}`);
    }
    const doneAt = new Date(o.now()).toISOString();
    const signed = await receipts.add({ version: 1, id, what: whatOf(scope), by, askedAt, doneAt, places: counts });
    reached('receipt kept');
    await realDisk.remove(pathOf(id));
    await realDisk.syncFolder(folder);
    log(`erasure ${id} is done; its receipt is in ${join(o.dataDir, 'receipts')}`);
    await note('erasure.done', asked);
    return signed;
  }

  async function run(asked: Note): Promise<SignedReceipt> {
    try {
      return await o.alone(() => carryOut(asked));
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      const [oldest] = failed.keys();
      if (failed.size >= FAILED_MAX && oldest !== undefined) failed.delete(oldest);
      failed.set(asked.id, { tenant: asked.scope.tenant, why });
      log(`ALARM: erasure ${asked.id} is not finished, the next start goes on with it: ${why}`);
      throw error;
    } finally {
      running = undefined;
    }
  }

  function start(asked: Note): Promise<SignedReceipt> {
    const done = run(asked);
    running = { id: asked.id, tenant: asked.scope.tenant, done };
    done.catch(() => {}); // told above, whether anybody waits or not
    return done;
  }

  async function pending(): Promise<Note[]> {
    const notes: Note[] = [];
    for (const name of await realDisk.list(folder)) {
      const bytes = name.endsWith('.json') && (await readWhole(realDisk, join(folder, name)));
      const known = bytes && noteSchema.safeParse(parseJson(bytes.toString())).data;
      if (known) notes.push(known);
      else if (name.endsWith('.new'))
        await realDisk.remove(join(folder, name)); // was never answered
      else log(`ALARM: ${join(folder, name)} does not read as an erasure that was asked for: ask for it again`);
    }
    return notes;
  }

  return {
    async begin(scope, by) {
      if (isClosing) throw problem('stopping', 'The server stops.');
      if (running)
        throw problem('erasure_busy', `The erasure ${running.id} is under way. Wait for its end, then ask again.`);
      const id = randomBytes(16).toString('hex');
      const asked: Note = { id, scope: { ...scope }, by, askedAt: new Date(o.now()).toISOString(), places: {} };
      let begin = () => {};
      const begun = new Promise<void>((resolve) => {
        begin = resolve;
      });
      running = { id, tenant: scope.tenant, done: begun };
      try {
        await write(asked);
        await note('erasure.begun', asked);
      } catch (error) {
        running = undefined;
        throw error;
      } finally {
        begin();
      }
      return { id, done: start(asked) };
    },
    async find(id) {
      if (!ID.test(id)) return undefined;
      if (running?.id === id) return { id, tenant: running.tenant, state: 'running' };
      const signed = await receipts.find(id);
      if (signed) return { id, tenant: signed.receipt.what.tenant, state: 'done', signed };
      const left = failed.get(id);
      return left && { id, ...left, state: 'failed' };
    },
    async finish() {
      for (const asked of await pending()) {
        log(`erasure ${asked.id} had begun when this stopped: going on with it`);
        await start(asked).catch(() => {});
      }
    },
    async close() {
      isClosing = true;
      await running?.done.catch(() => {});
    },
  };
}
