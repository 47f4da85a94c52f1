// The routes of backups. What is begun goes on when its caller leaves: who wants to know asks again, or follows the events.
import type { Context, Hono } from 'hono';
import type { Asker } from './backups/asker.ts';
import type { Backups, Begun } from './backups/backups.ts';
import type { Backup } from './backups/catalogue.ts';
import type { Job } from './backups/jobs.ts';
import { type BackupAnswer, type BackupJob, backupQuerySchema, restoreQuerySchema } from './contract/backups.ts';
import { OPERATOR_SCOPE } from './contract/keys.ts';
import { parseQuery } from './contract/messages.ts';
import { sendEvents } from './event-stream.ts';
import { allow, type CoreEnv } from './route.ts';

const SCOPE = 'backups:admin';

export function addBackupRoutes(app: Hono<CoreEnv>, backups: Backups): void {
  app.post('/v1/backups', async (c) => {
    const by = askerOf(c, 'backup-create');
    const { wait } = parseQuery(backupQuerySchema, new URL(c.req.url).searchParams);
    return answer(c, backups, await backups.create(by), wait);
  });
  app.get('/v1/backups', async (c) => {
    allow(c, SCOPE, 'backups');
    const all = await backups.list();
    return c.json({ backups: all.map((backup) => face(backup, backups.jobOf(backup.id))) });
  });
  app.get('/v1/backups/:id', async (c) => {
    allow(c, SCOPE, 'backup');
    return c.json(await look(backups, c.req.param('id')));
  });
  app.get('/v1/backups/:id/events', async (c) => {
    allow(c, SCOPE, 'backup-events');
    const id = c.req.param('id');
    if (!backups.jobOf(id)) await backups.find(id);
    return sendEvents(c, async function* (quietMs, signal) {
      for await (const told of backups.follow(id, quietMs, signal))
        yield typeof told === 'number' ? told : { id: told.id, type: told.type, ...jobFace(told) };
    });
  });
  app.post('/v1/backups/:id/verify', async (c) => {
    const by = askerOf(c, 'backup-verify');
    const { wait } = parseQuery(backupQuerySchema, new URL(c.req.url).searchParams);
    return answer(c, backups, await backups.verify(c.req.param('id'), by), wait);
  });
  app.post('/v1/backups/:id/drill', async (c) => {
    const by = askerOf(c, 'backup-drill');
    const { wait } = parseQuery(backupQuerySchema, new URL(c.req.url).searchParams);
    return answer(c, backups, await backups.drill(c.req.param('id'), by), wait);
  });
  app.post('/v1/backups/:id/restore', async (c) => {
    allow(c, OPERATOR_SCOPE, 'backup-restore'); // every tenant's tensors change
    const by = askerOf(c, 'backup-restore');
    const { wait, safety } = parseQuery(restoreQuerySchema, new URL(c.req.url).searchParams);
    return answer(c, backups, await backups.restore(c.req.param('id'), by, { safety }), wait);
  });
}

function askerOf(c: Context<CoreEnv>, route: string): Asker {
  const { keyid, tenant } = allow(c, SCOPE, route);
  return { actor: keyid, tenant };
}

/** 202 at once; with `wait` 200 in the end, or why it failed. */
async function answer(c: Context<CoreEnv>, backups: Backups, { id, ended }: Begun, wait: boolean): Promise<Response> {
  if (wait) await ended;
  return c.json(await look(backups, id), wait ? 200 : 202);
}

async function look(backups: Backups, id: string): Promise<BackupAnswer> {
  const job = backups.jobOf(id);
  if (job?.kind !== 'create') return face(await backups.find(id), job);
  return backups.find(id).then(
    (backup) => face(backup, job),
    () => begunFace(id, job),
  );
}

/** Its folder is still to be made, or is gone as it failed. */
const begunFace = (id: string, job: Job): BackupAnswer => ({
  ...{ id, createdAt: new Date(job.startedMs).toISOString(), entries: 0, bytes: 0, files: 0 },
  ...{ state: job.state === 'running' ? 'running' : 'unfinished', reason: 'unknown', by: 'unknown', faults: [] },
  ...{ copied: null, seconds: null, verifiedAt: null, drilledAt: null, job: jobFace(job) },
});

const moment = (ms: number | undefined): string | null => (ms === undefined ? null : new Date(ms).toISOString());

function face(backup: Backup, job: Job | undefined): BackupAnswer {
  const { id, state, entries, bytes, files, reason, by, faults } = backup;
  const isMade = state === 'unfinished' && job?.kind === 'create' && job.state === 'running';
  return {
    ...{ id, createdAt: new Date(backup.atMs).toISOString(), state: isMade ? 'running' : state },
    ...{ entries, bytes, files, copied: backup.copied ?? null, seconds: backup.seconds ?? null, reason, by },
    verifiedAt: moment(backup.verified?.atMs),
    drilledAt: moment(backup.drilled?.atMs),
    faults: [...faults],
    job: job ? jobFace(job) : null,
  };
}

const jobFace = ({ kind, state, startedMs, endedMs, progress, result, fault }: Job): BackupJob => ({
  ...{ kind, state, startedAt: new Date(startedMs).toISOString(), endedAt: moment(endedMs) },
  ...{ progress: { ...progress }, result: result ? { ...result } : null, fault: fault ? { ...fault } : null },
});
