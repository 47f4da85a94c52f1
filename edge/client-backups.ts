// The client's calls for backups. They need the scope `backups:admin`, a restore `operator` too. What is begun is asked after until it
// has ended; giving up ends the asking, not the work. What fails throws what the server says of it. Pure.
import { type BackupAnswer, type BackupJob, backupSchema, backupsSchema } from '../core/contract/backups.ts';
import { BlatamError, isMissing, readJson, withQuery } from './client-answers.ts';
import { type Answer, type Ask, TransferError } from './client-wire.ts';

const ASK_MS = 250;

export interface BackupWatch {
  /** How far it is, a few times a second. */
  readonly told?: ((job: BackupJob) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface RestoreOptions extends BackupWatch {
  /** What is there now is backed up first; default true. */
  readonly safety?: boolean | undefined;
}

/** Each resolves in the end, with what is known of the backup then. */
export interface ClientBackups {
  /** The newest first. */
  list(): Promise<BackupAnswer[]>;
  get(id: string): Promise<BackupAnswer | undefined>;
  create(watch?: BackupWatch): Promise<BackupAnswer>;
  /** Reads every byte; what is wrong stands in `faults`. */
  verify(id: string, watch?: BackupWatch): Promise<BackupAnswer>;
  /** Restores it on trial. */
  drill(id: string, watch?: BackupWatch): Promise<BackupAnswer>;
  /** All tensors of all tenants become what they were. */
  restore(id: string, options?: RestoreOptions): Promise<BackupAnswer>;
}

export function clientBackups(ask: (ask: Ask) => Promise<Answer>): ClientBackups {
  const pathOf = (id: string): string => `/v1/backups/${encodeURIComponent(id)}`;

  async function get(id: string): Promise<BackupAnswer | undefined> {
    const answer = await ask({ path: pathOf(id) });
    return (await isMissing(answer, 'backup_unknown')) ? undefined : readJson(answer, backupSchema);
  }

  async function run(path: string, { told, signal }: BackupWatch): Promise<BackupAnswer> {
    let backup: BackupAnswer | undefined = await readJson(await ask({ method: 'POST', path }), backupSchema);
    const { id } = backup;
    for (; ; backup = await get(id)) {
      const job = backup?.job;
      if (!backup || !job)
        throw new TransferError('cut', `The server was started again, and POST ${path} (${id}) has ended with it.`);
      told?.(job);
      if (job.state === 'done') return backup;
      if (job.fault) throw refusalOf(path, job.fault);
      await pause(ASK_MS, signal);
    }
  }

  return {
    list: async () => (await readJson(await ask({ path: '/v1/backups' }), backupsSchema)).backups,
    get,
    create: (watch = {}) => run('/v1/backups', watch),
    verify: (id, watch = {}) => run(`${pathOf(id)}/verify`, watch),
    drill: (id, watch = {}) => run(`${pathOf(id)}/drill`, watch),
    restore: (id, { safety, ...watch } = {}) => run(withQuery(`${pathOf(id)}/restore`, { safety }), watch),
  };
}

const refusalOf = (path: string, fault: NonNullable<BackupJob['fault']>): BlatamError =>
  new BlatamError(`POST ${path}`, { ...fault, requestId: undefined, document: fault });

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const giveUp = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', giveUp);
      resolve();
    }, ms);
    signal?.addEventListener('abort', giveUp, { once: true });
    if (signal?.aborted) giveUp();
  });
}
