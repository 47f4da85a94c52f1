// Backups of what this instance holds: made, kept for a while, read again, restored on trial, and put in the place of what is there.
// One thing at a time. In a backup are the tensors that are on disk at one moment (what was answered `back` before is flushed
// first) and the rows of the database; not in it are KV, which is a cache, tensors that were never to be on disk, settings,
// and the master key, without which nobody can use the keys that are in it.
import { join } from 'node:path';
import { asProblem, Problem, problem } from '../contract/problems.ts';
import { verifyBackup } from '../store/backup.ts';
import type { ChangingStore } from '../store/changing.ts';
import { type Disk, realDisk } from '../store/disk.ts';
import { type Asker, type AuditLine, SCHEDULE } from './asker.ts';
import { type Backup, openCatalogue } from './catalogue.ts';
import { drill } from './drill.ts';
import { assertFits } from './fits.ts';
import { createJobs, type Job, type JobEvent, type JobKind, type Tell } from './jobs.ts';
import { createMake } from './making.ts';
import { restoreOver } from './restoring.ts';
import { due, type Retention, type Schedule, surplus, type Tried } from './retention.ts';
import type { Rows } from './rows.ts';

const LOOK_MS = 60_000;
const FAULTS_MAX = 20;

export interface BackupsOptions {
  readonly dataDir: string;
  /** Where they lie. */
  readonly folder: string;
  readonly store: ChangingStore;
  /** What was answered before is on disk when it resolves. */
  readonly flush: () => Promise<void>;
  /** The store has become another. */
  readonly startOver: () => void;
  readonly rows: Rows;
  readonly audit: (line: AuditLine) => Promise<unknown>;
  readonly retention: Retention;
  readonly schedule: Schedule;
  readonly now: () => number;
  readonly log: (line: string) => void;
  readonly disk?: Disk;
}

/** It has begun; the end comes later. */
export interface Begun {
  readonly id: string;
  readonly ended: Promise<unknown>;
}

export interface BackupsStatus {
  readonly count: number;
  readonly newest: Backup | undefined;
  /** The last drill did not succeed: why. */
  readonly alarm: string | undefined;
  readonly failures: Readonly<Record<JobKind, number>>;
}

export interface Backups {
  readonly status: BackupsStatus;
  list(): Promise<Backup[]>;
  find(id: string): Promise<Backup>;
  jobOf(id: string): Job | undefined;
  create(by: Asker): Promise<Begun>;
  verify(id: string, by: Asker): Promise<Begun>;
  /** All tensors become those of the backup; a backup of what is there now is made first, unless `safety` is false. */
  restore(id: string, by: Asker, options?: { readonly safety?: boolean }): Promise<Begun>;
  drill(id: string, by: Asker): Promise<Begun>;
  follow(id: string, quietMs: number, signal: AbortSignal): AsyncGenerator<JobEvent | number, void, void>;
  /** No backup is made, read or restored meanwhile: for who changes what is in them. */
  alone<T>(what: string, work: () => Promise<T>): Promise<T>;
  /** Looks whether something is due; called every minute from the start on. */
  look(): Promise<void>;
  close(): Promise<void>;
}

export async function openBackups(o: BackupsOptions): Promise<Backups> {
  const { store, now, log, disk = realDisk } = o;
  // A disk for backups that is away is no reason to serve nothing.
  await disk
    .makeFolder(o.folder)
    .catch((error: unknown) => log(`ALARM: no backups can be made in ${o.folder}: ${String(error)}`));
  const catalogue = openCatalogue(o.folder, disk);
  const jobs = createJobs(now);
  const make = createMake({ ...o, catalogue, disk });
  const failures: Record<JobKind, number> = { create: 0, verify: 0, restore: 0, drill: 0 };
  let status: BackupsStatus = { count: 0, newest: undefined, alarm: undefined, failures };
  let tried: Tried = {};
  let looking: Promise<void> | undefined;

  async function refresh(alarm?: string): Promise<void> {
    const all = await catalogue.list().catch(() => []); // its disk is away
    const drilled = all.filter((one) => one.drilled).sort((a, b) => (b.drilled?.atMs ?? 0) - (a.drilled?.atMs ?? 0));
    const [fault] = drilled[0]?.drilled?.faults ?? [];
    const said = fault && `${drilled[0]?.id}: ${fault}`;
    const newest = all.find(({ state }) => state === 'whole');
    status = {
      count: all.filter(({ state }) => state !== 'unfinished').length,
      newest,
      alarm: alarm ?? said,
      failures,
    };
  }

  /** One at a time; how it ended stands in the log, in the audit log and in the metrics. */
  function begin(kind: JobKind, id: string, by: Asker, work: (tell: Tell) => Promise<Record<string, unknown>>): Begun {
    const ended = jobs.run(kind, id, async (tell) => {
      try {
        return await work(tell);
      } catch (thrown) {
        failures[kind]++;
        const fault = thrown instanceof Problem ? thrown : problemOf(kind, thrown);
        log(`${kind} of backup ${id} failed: ${fault.message}`);
        await note({
          ...by,
          action: `backup.${kind}.failed`,
          subject: id,
          detail: { why: fault.message.slice(0, 500) },
        });
        await refresh(kind === 'drill' ? `${id}: ${fault.message}` : undefined);
        throw fault;
      }
    });
    ended.catch(() => {}); // told above, whether anybody waits or not
    return { id, ended };
  }

  /** What was done was done: that it could not be written down is told in the log. */
  async function note(line: AuditLine): Promise<void> {
    await o
      .audit(line)
      .catch((error: unknown) => log(`not in the audit log: ${line.action} ${line.subject} (${error})`));
  }

  async function removeSurplus(): Promise<void> {
    for (const id of surplus(await catalogue.list(), o.retention, now())) {
      await catalogue.remove(id);
      await note({ ...SCHEDULE, action: 'backup.removed', subject: id, detail: { why: 'retention' } });
      log(`backup ${id} is removed: there are newer ones`);
    }
  }

  /** Behind something that was done, and stays so whatever happens here. */
  async function prune(): Promise<void> {
    await removeSurplus().catch((error: unknown) =>
      log(`backups that are too many, or too old, stay: ${String(error)}`),
    );
    await refresh();
  }

  async function create(by: Asker, reason: 'asked' | 'schedule' = 'asked'): Promise<Begun> {
    await o.flush();
    if (store.entries === 0) throw problem('backup_empty', 'There is nothing to back up: no tensor is on disk.');
    const id = await catalogue.freeName(now()).catch((error: unknown) => {
      throw problemOf('create', error);
    });
    return begin('create', id, by, async (tell) => {
      const made = await make(id, by, reason, tell('copying'));
      await note({ ...by, action: 'backup.created', subject: id, detail: { ...made, reason } });
      await prune();
      return made;
    });
  }

  /** Before a restore. */
  async function save(by: Asker, told: ReturnType<Tell>): Promise<string | null> {
    await o.flush();
    if (store.entries === 0) return null;
    const id = await catalogue.freeName(now());
    const made = await make(id, by, 'restore', told);
    await note({ ...by, action: 'backup.created', subject: id, detail: { ...made, reason: 'restore' } });
    return id;
  }

  async function finished(id: string): Promise<Backup> {
    const backup = await catalogue.find(id);
    if (backup.state !== 'unfinished') return backup;
    throw problem('backup_unknown', `The backup ${id} is not finished: it holds nothing yet.`);
  }

  async function rehearse(id: string, tell: Tell): Promise<Record<string, unknown>> {
    await assertFits(o.folder, (await catalogue.find(id)).bytes);
    const at = { from: catalogue.path(id), scratch: join(o.folder, 'drill') };
    const done = await drill({ ...at, disk, restoring: tell('restoring'), reading: tell('reading') }).catch(isDamage);
    await catalogue.note(id, { drilled: { atMs: now(), faults: done.faults.slice(0, FAULTS_MAX) } });
    if (done.faults.length > 0)
      throw problem('backup_damaged', `The drill failed: ${done.faults.join('; ').slice(0, 2000)}`);
    await refresh();
    return { entries: done.entries, bytes: done.bytes };
  }

  async function lookOnce(): Promise<void> {
    const what = jobs.running ? undefined : due(await catalogue.newestWhole(), tried, o.schedule, now());
    if (what === 'backup' && store.entries > 0) {
      tried = { ...tried, backupMs: now() };
      await (await create(SCHEDULE, 'schedule')).ended.catch(() => {}); // told where it failed
    } else if (what === 'drill') {
      tried = { ...tried, drillMs: now() };
      const newest = await catalogue.newestWhole();
      if (newest) await drillOne(newest.id, SCHEDULE).ended.catch(() => {});
    }
  }

  const drillOne = (id: string, by: Asker): Begun =>
    begin('drill', id, by, async (tell) => {
      const done = await rehearse(id, tell);
      await note({ ...by, action: 'backup.drilled', subject: id, detail: done });
      return done;
    });

  await refresh();
  const look = (): Promise<void> => {
    looking ??= lookOnce()
      .catch((error: unknown) => {
        failures.create++;
        log(`ALARM: whether a backup is due in ${o.folder} cannot be told, or it cannot begin: ${String(error)}`);
      })
      .finally(() => {
        looking = undefined;
      });
    return looking;
  };
  const timer = setInterval(() => void look(), LOOK_MS).unref();

  return {
    get status() {
      return status;
    },
    list: catalogue.list,
    find: catalogue.find,
    jobOf: jobs.of,
    create,
    async verify(id, by) {
      await finished(id);
      return begin('verify', id, by, async (tell) => {
        const found = await verifyBackup(catalogue.path(id), tell('reading'), disk).then(() => SOUND, isDamage);
        await catalogue.note(id, { verified: { atMs: now(), faults: found.faults.slice(0, FAULTS_MAX) } });
        await refresh();
        await note({ ...by, action: 'backup.verified', subject: id, detail: { faults: found.faults.length } });
        if (found.faults.length > 0) log(`ALARM: backup ${id} is damaged: ${found.faults[0]}`);
        return { ok: found.faults.length === 0, faults: found.faults };
      });
    },
    async restore(id, by, { safety = true } = {}) {
      await finished(id);
      return begin('restore', id, by, async (tell) => {
        const done = await restoreOver({ ...o, catalogue, disk, save }, { id, by, safety, tell });
        await prune();
        return done;
      });
    },
    async drill(id, by) {
      await finished(id);
      return drillOne(id, by);
    },
    follow: jobs.follow,
    alone: (what, work) => jobs.alone(what, () => work().finally(refresh)),
    look,
    async close() {
      clearInterval(timer);
      await jobs.close();
      await looking;
    },
  };
}

const SOUND: { readonly faults: readonly string[] } = { faults: [] };

/** What was found wrong, as against: it could not be looked at. */
function isDamage(error: unknown): { entries: number; bytes: number; faults: readonly string[] } {
  if (!(error instanceof Problem) || error.code !== 'backup_damaged') throw error;
  const { faults } = error.extra;
  return { entries: 0, bytes: 0, faults: Array.isArray(faults) ? faults.map(String) : [error.message] };
}

function problemOf(kind: JobKind, cause: unknown): Problem {
  const { code } = cause as NodeJS.ErrnoException;
  if (code === undefined) return asProblem(cause);
  return problem('backup_failed', `The ${kind} ended at the disk (${code}).`, {}, { cause });
}
