// DATA_DIR/upgrade.json: how far an upgrade has come, written before and after each of its steps, whole or not at all, so that
// a process that was killed is followed by one that knows what to do. While two stores are being exchanged nothing may be
// started on the folder: what stands there is neither the one nor the other.
//   upgrade/next/     what is being made: a copy, migrated and verified
//   upgrade/before/   what was there before the upgrade, untouched: the way back
//   upgrade/after/    what was there when somebody went back
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { parseJson } from '../contract/json.ts';
import { readWhole, realDisk, replaceWhole } from '../store/disk.ts';

export const STEPS = ['check', 'copy', 'configure', 'migrate', 'verify', 'exchange'] as const;
export type StepName = (typeof STEPS)[number];

const journalSchema = z.object({
  version: z.literal(1),
  /** `going back`: to what was there before. */
  state: z.enum(['upgrading', 'done', 'rolled back', 'going back', 'back']),
  program: z.string(),
  steps: z.array(z.object({ name: z.enum(STEPS), begun: z.string(), ended: z.string().nullable() })),
  /** A file of settings that goes with it. */
  settingsFile: z.string().nullable(),
  failure: z.string().nullable(),
});
export type UpgradeJournal = z.infer<typeof journalSchema>;

export interface Folders {
  readonly journal: string;
  readonly all: string;
  readonly next: string;
  readonly before: string;
  readonly after: string;
}

export function foldersOf(dataDir: string): Folders {
  const all = join(dataDir, 'upgrade');
  return {
    ...{ journal: join(dataDir, 'upgrade.json'), all },
    ...{ next: join(all, 'next'), before: join(all, 'before'), after: join(all, 'after') },
  };
}

export async function readJournal(dataDir: string): Promise<UpgradeJournal | undefined> {
  const { journal } = foldersOf(dataDir);
  const bytes = await readWhole(realDisk, journal);
  await rm(`${journal}.new`, { force: true });
  if (!bytes) return undefined;
  const value = journalSchema.safeParse(parseJson(bytes.toString())).data;
  if (value) return value;
  throw new Error(
    `${journal} does not read as the journal of an upgrade of this version. Use the version that wrote it, or look into ${dataDir}/upgrade and set it right by hand.`,
  );
}

export async function writeJournal(dataDir: string, journal: UpgradeJournal): Promise<void> {
  await replaceWhole(realDisk, foldersOf(dataDir).journal, Buffer.from(`${JSON.stringify(journal, undefined, 2)}\n`));
}

/** Two stores are being exchanged: the run that began it was ended in between. */
export const isExchanging = ({ state, steps }: UpgradeJournal): boolean =>
  state === 'going back' || (state === 'upgrading' && steps.some(({ name }) => name === 'exchange'));

/** Throws where a start would find neither what was nor what is to be. */
export async function assertSettled(dataDir: string): Promise<void> {
  const journal = await readJournal(dataDir);
  if (journal && isExchanging(journal))
    throw new Error(`an upgrade of ${dataDir} was interrupted: run npx blatam upgrade again, it goes on where it was`);
}
