// What goes into the audit log beside changes of keys (grants.ts, each in the transaction of its change): administrative acts as
// they end, and lines about those who were not let in. Both come after the fact: a database that is away leaves a line in the
// process's log instead, and holds up nobody.
import { appendAudit, listAudit } from '../db/audit.ts';
import type { Database } from '../db/client.ts';
import { type AuditAnswer, isOperator } from './contract/keys.ts';
import { createRefusals, type RefusalLine, type Refusals } from './contract/refusals.ts';
import type { Caller } from './contract/signatures.ts';

export interface Act {
  readonly caller: Caller;
  readonly action: string;
  readonly subject: string;
  readonly detail: Record<string, unknown>;
}

export interface Audit extends Refusals {
  act(act: Act): Promise<void>;
  /** Lines that an edge elsewhere has made. */
  append(lines: readonly RefusalLine[]): Promise<void>;
  /** Of the caller's tenant; all, for an operator. */
  list(caller: Caller, after: number, limit: number): Promise<AuditAnswer>;
}

export interface AuditOptions {
  readonly database: Database;
  readonly now: () => number;
  readonly log: (line: string) => void;
}

export function createAudit({ database, now, log }: AuditOptions): Audit {
  async function append(lines: readonly RefusalLine[]): Promise<void> {
    for (const line of lines) await appendAudit(database.query, { ...line, action: 'refused' });
  }

  return {
    ...createRefusals({ write: append, now, log }),
    append,
    async act({ caller: { tenant, keyid }, action, subject, detail }) {
      const entry = { tenant, actor: keyid, action, subject, detail };
      await appendAudit(database.query, entry).catch((error: unknown) =>
        log(`${action} by ${keyid} is not in the audit log: ${error instanceof Error ? error.message : String(error)}`),
      );
    },
    async list(caller, after, limit) {
      const found = await listAudit(database.query, after, limit, isOperator(caller) ? undefined : caller.tenant);
      const entries = found.map((entry) => ({ ...entry, at: entry.at.toISOString() }));
      return { entries, after: entries.at(-1)?.id ?? after };
    },
  };
}
