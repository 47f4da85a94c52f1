// The folder of backups: which there are, what is known of each, and which of them is whole.
//   <folder>/cache_20261120T193000Z/   one backup (core/store/backup.ts)
//     notes.json                       what came about it since: who made it, when it was verified; it may be lost
// A folder without a manifest is a backup that is being made, or was never finished. Other names are not looked at.
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { problem } from '../contract/problems.ts';
import { type Disk, readWhole, replaceWhole } from '../store/disk.ts';
import { type Manifest, readManifest } from '../store/manifest.ts';
import { nameAt, timeOf } from './names.ts';

const lookSchema = z.object({ atMs: z.number(), faults: z.array(z.string()) });
const notesSchema = z.object({
  reason: z.enum(['asked', 'schedule', 'restore', 'unknown']).default('unknown'),
  by: z.string().default('unknown'),
  seconds: z.number().optional(),
  copied: z.object({ files: z.int(), bytes: z.int() }).optional(),
  /** When all of it was last read, or restored on trial, and what was wrong then. */
  verified: lookSchema.optional(),
  drilled: lookSchema.optional(),
  /** As the manifest has it. */
  held: z.object({ entries: z.int(), bytes: z.int(), files: z.int() }).optional(),
});
export type Notes = z.infer<typeof notesSchema>;

export interface Backup extends Omit<Notes, 'held'> {
  readonly id: string;
  readonly atMs: number;
  readonly state: 'whole' | 'damaged' | 'unfinished';
  readonly entries: number;
  readonly bytes: number;
  readonly files: number;
  /** Of all looks. */
  readonly faults: readonly string[];
}

export interface Catalogue {
  path(id: string): string;
  /** The newest first. */
  list(): Promise<Backup[]>;
  /** Throws `backup_unknown`. */
  find(id: string): Promise<Backup>;
  newestWhole(): Promise<Backup | undefined>;
  /** A name that no backup has, later than all: several in a second are told by names ahead of the clock. */
  freeName(nowMs: number): Promise<string>;
  note(id: string, more: Partial<Notes>): Promise<void>;
  /** The manifest goes first: what is left of it then is no backup. */
  remove(id: string): Promise<void>;
  /** What was never finished; nobody may be making one. */
  removeUnfinished(): Promise<string[]>;
}

export function openCatalogue(folder: string, disk: Disk): Catalogue {
  const path = (id: string) => join(folder, id);
  const names = async () => (await disk.list(folder)).filter((name) => timeOf(name) !== undefined);

  async function notesOf(id: string): Promise<Notes> {
    const bytes = await readWhole(disk, join(path(id), 'notes.json')).catch(() => undefined);
    return notesSchema.safeParse(parseJson(bytes?.toString() ?? '')).data ?? notesSchema.parse({});
  }

  async function heldIn(id: string): Promise<Notes['held'] | Error> {
    return readManifest(disk, path(id)).then(heldOf, (error: Error) => error);
  }

  async function look(id: string): Promise<Backup> {
    const { held: noted, ...notes } = await notesOf(id);
    const isFinished = disk.sizeOf(join(path(id), 'manifest.json')) >= 0;
    const held = isFinished ? (noted ?? (await heldIn(id))) : undefined;
    const found = [...(notes.verified?.faults ?? []), ...(notes.drilled?.faults ?? [])];
    const faults = held instanceof Error ? [held.message] : found;
    const state = !isFinished ? 'unfinished' : faults.length > 0 ? 'damaged' : 'whole';
    const known = held && !(held instanceof Error) ? held : { entries: 0, bytes: 0, files: 0 };
    return { id, atMs: timeOf(id) ?? 0, state, ...known, ...notes, faults };
  }

  async function list(): Promise<Backup[]> {
    const all = await Promise.all((await names()).map(look));
    return all.sort((a, b) => b.atMs - a.atMs);
  }

  return {
    path,
    list,
    async find(id) {
      const isThere = timeOf(id) !== undefined && (await disk.list(path(id))).length > 0;
      if (isThere) return look(id);
      throw problem('backup_unknown', `There is no backup ${id.slice(0, 100)} in ${folder}.`);
    },
    newestWhole: async () => (await list()).find(({ state }) => state === 'whole'),
    async freeName(nowMs) {
      const newestMs = Math.max(...(await names()).map((id) => timeOf(id) ?? 0), 0);
      return nameAt(Math.max(nowMs, newestMs + 1000));
    },
    async note(id, more) {
      const text = JSON.stringify({ ...(await notesOf(id)), ...more }, undefined, 1);
      await replaceWhole(disk, join(path(id), 'notes.json'), Buffer.from(`${text}\n`));
    },
    async remove(id) {
      await disk.remove(join(path(id), 'manifest.json'));
      await disk.remove(path(id));
    },
    async removeUnfinished() {
      const unfinished = (await list()).filter(({ state }) => state === 'unfinished').map(({ id }) => id);
      for (const id of unfinished) await disk.remove(path(id));
      return unfinished;
    },
  };
}

export const heldOf = ({ entries, bytes, files }: Manifest) => ({ entries, bytes, files: files.length });
