// What callers ask of backups and are told of them. Pure: the client reads answers by the same shapes.
import { z } from 'zod';

const flag = z.enum(['true', 'false']).transform((said) => said === 'true');

export const BACKUP_JOBS = ['verify', 'restore', 'drill'] as const;
export type BackupJobName = (typeof BACKUP_JOBS)[number];

/** `wait`: the answer comes when it is done. */
export const backupQuerySchema = z.strictObject({ wait: flag.default(false) });
/** `safety`: what is there now is backed up first. */
export const restoreQuerySchema = z.strictObject({ wait: flag.default(false), safety: flag.default(true) });

const progressSchema = z.object({ step: z.string(), files: z.number(), of: z.number(), bytes: z.number() });

/** What is being done, or was done last, since the server started. */
export const backupJobSchema = z.looseObject({
  kind: z.enum(['create', ...BACKUP_JOBS]),
  state: z.enum(['running', 'done', 'failed']),
  startedAt: z.string(),
  endedAt: z.string().nullable(),
  progress: progressSchema,
  result: z.record(z.string(), z.unknown()).nullable(),
  fault: z.looseObject({ code: z.string(), status: z.number(), detail: z.string() }).nullable(),
});
export type BackupJob = z.infer<typeof backupJobSchema>;

export const backupSchema = z.looseObject({
  id: z.string(),
  createdAt: z.string(),
  state: z.enum(['running', 'whole', 'damaged', 'unfinished']),
  entries: z.number(),
  bytes: z.number(),
  files: z.number(),
  /** Read from the store; the rest was in the backup before. */
  copied: z.looseObject({ files: z.number(), bytes: z.number() }).nullable(),
  seconds: z.number().nullable(),
  reason: z.string(),
  by: z.string(),
  verifiedAt: z.string().nullable(),
  drilledAt: z.string().nullable(),
  faults: z.array(z.string()),
  job: backupJobSchema.nullable(),
});
export type BackupAnswer = z.infer<typeof backupSchema>;

export const backupsSchema = z.looseObject({ backups: z.array(backupSchema) });
