// The room of backups over a real store, as the product opens it, without a database: what it asks of rows and of the audit log
// is kept here. Used by the tests and by the process that they kill.
import { join } from 'node:path';
import type { AuditLine } from '../../core/backups/asker.ts';
import { type Backups, openBackups } from '../../core/backups/backups.ts';
import { finishPlacing } from '../../core/backups/placing.ts';
import { completeRestore } from '../../core/backups/restoring.ts';
import { type ChangingStore, openChangingStore } from '../../core/store/changing.ts';
import type { Disk } from '../../core/store/disk.ts';
import { openStore } from '../../core/store/store.ts';
import { SMALL_STORE } from './crash.ts';

export interface BackupsWorld {
  readonly store: ChangingStore;
  readonly backups: Backups;
  readonly audit: AuditLine[];
  readonly lines: string[];
  readonly clock: { now: number };
  close(): Promise<void>;
}

export const ME = { actor: 'me', tenant: 'default' };

export interface WorldOptions {
  readonly disk: Disk;
  readonly clock?: { now: number };
  readonly keep?: number;
  /** As if the database were away. */
  readonly failMerge?: () => boolean;
  readonly startedOver?: () => void;
}

export async function openWorld(dataDir: string, o: WorldOptions): Promise<BackupsWorld> {
  const { disk, clock = { now: 1_800_000_000_000 } } = o;
  const lines: string[] = [];
  const audit: AuditLine[] = [];
  const log = (line: string) => void lines.push(line);
  await finishPlacing(dataDir, disk, log);
  const store = await openChangingStore(() => openStore(join(dataDir, 'cache'), log, { disk, ...SMALL_STORE }), 100);
  const restoring = {
    ...{ dataDir, log, disk },
    rows: {
      save: async () => [],
      async merge() {
        if (o.failMerge?.()) throw new Error('the database is away');
        return { tenants: 0, keys: 0 };
      },
    },
    audit: async (line: AuditLine) => audit.push(line),
  };
  await completeRestore(restoring);
  const backups = await openBackups({
    ...restoring,
    ...{ store, flush: async () => {}, startOver: o.startedOver ?? (() => {}), now: () => clock.now },
    folder: join(dataDir, 'backups'),
    retention: { count: o.keep ?? 100, days: 30 },
    schedule: { everyHours: 24, drillEveryHours: 48 },
  });
  const close = async () => {
    await backups.close();
    await store.close();
  };
  return { store, backups, audit, lines, clock, close };
}
