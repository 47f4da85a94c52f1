// Who asks for something to be done with backups, and what the audit log is told of it.

/** Who asks. */
export interface Asker {
  readonly actor: string;
  readonly tenant: string | null;
}
export const SCHEDULE: Asker = { actor: 'schedule', tenant: null };

export interface AuditLine extends Asker {
  readonly action: string;
  readonly subject: string;
  readonly detail: Record<string, unknown>;
}
