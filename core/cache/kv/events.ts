// What happens to the blocks that a tenant has stored: 5 MB a tenant at most.
import type { KvEvent } from '../../contract/kv-calls.ts';
import { createEventLog, type EventLog } from '../event-log.ts';

export type KvEvents = EventLog<KvEvent>;

export const createEvents = (now: () => number): KvEvents => createEventLog<KvEvent>(now);
