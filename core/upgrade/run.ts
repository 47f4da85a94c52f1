// One run of an upgrade: what it is told, and what all of its steps share: which parts of a data folder there are, and which of
// their files a copy may link to, as they never change under their names.
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { bytesToCopy, type CopyRules } from './copy.ts';
import { endLeftover } from './database.ts';
import { PARTS } from './exchange.ts';
import { foldersOf, type StepName } from './journal.ts';

export interface UpgradeOptions {
  readonly dataDir: string;
  readonly program: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly databaseUrl?: string | undefined;
  /** Its keeper has a backup of the outside database. */
  readonly isOutsideBackedUp?: boolean;
  readonly settingsFile?: string | undefined;
  readonly renamed?: Readonly<Record<string, string>>;
  /** A thousand payloads are verified, not all. */
  readonly isQuick?: boolean;
  /** What was damaged before is not there afterwards. */
  readonly isWithoutDamaged?: boolean;
  readonly say: (line: string) => void;
  /** In hundredths of a step. */
  readonly passed?: (step: StepName, percent: number) => void;
  /** A test may fail here, or end the process. */
  readonly reached?: (point: string) => void;
}

/** What one run finds out on its way. */
export interface Run extends UpgradeOptions {
  readonly reached: (point: string) => void;
  readonly passed: (step: StepName, percent: number) => void;
  entriesBefore?: number;
  entries?: number;
}

/** Root makes it; the bundled server's user passes through it, and cannot list it. */
export const SHARED_MODE = process.getuid?.() === 0 ? 0o711 : 0o700;

type Part = (typeof PARTS)[number];

export const RULES: Readonly<Record<Part, CopyRules>> = {
  cache: {
    // KV that is kept on disk can be computed again; what is incoming was never answered.
    isSkipped: (path) => /^(?:kv|incoming)(?:\/|$)/.test(path),
    isLinked: (path) => /^(?:format-1|quarantine)\/|^entries\/[0-9a-f]{2}\//.test(path),
  },
  postgres: { isSkipped: (path) => path === 'postmaster.pid', isLinked: () => false },
};

/** The parts that are there and ours. */
export const partsOf = ({ dataDir, databaseUrl }: Run): Part[] =>
  PARTS.filter((part) => existsSync(join(dataDir, part)) && !(part === 'postgres' && databaseUrl));

export async function sizeOf(run: Run): Promise<number> {
  let sum = 0;
  for (const part of partsOf(run)) sum += await bytesToCopy(join(run.dataDir, part), RULES[part]);
  return sum;
}

/** What is being made is nothing yet. */
export async function clearNext(dataDir: string): Promise<void> {
  const { next } = foldersOf(dataDir);
  await endLeftover(next);
  await rm(next, { recursive: true, force: true });
}

export const mebibytes = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);

export const lineOf = (error: unknown): string =>
  (error instanceof Error ? error.message : String(error)).replace(/(?<![.!?])$/, '.');
