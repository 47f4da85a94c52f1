// What is kept of those who were not let in (401, 403, 429): lines for the audit log, however many they were. Pure.
// Refusals of one caller by one code from one address are one line with a count, at most LINES_MAX lines of callers who are known and
// as many of others in a window; what is beyond is counted by code in one line. The first after a quiet time is written
// at once, what follows when the window ends; each window that was full makes the next twice as long, up to WINDOW_MS_MAX. So a flood
// writes a bounded number of lines, and hides nobody who is known behind those who are not.
// On Workers a timer ends with its request: there, what is left of a window is written with the next refusal.
import { z } from 'zod';

export const LINES_MAX = 10;
const WINDOW_MS = 10_000;
const WINDOW_MS_MAX = 640_000;
const SUBJECT_MAX = 200;
const TEXT_MAX = 256;

export interface Refusal {
  readonly status: number;
  readonly code: string;
  /** Who it was, where that is proven. */
  readonly caller?: { readonly keyid: string; readonly tenant: string } | undefined;
  readonly address?: string | undefined;
  readonly method: string;
  readonly path: string;
  readonly requestId: string;
}

const text = z.string().max(TEXT_MAX);
export const refusalLinesSchema = z
  .array(
    z.object({
      tenant: text.nullable(),
      actor: text,
      /** Of the first. */
      subject: text,
      detail: z.record(text, z.unknown()),
    }),
  )
  .max(2 * LINES_MAX + 1);
export type RefusalLine = z.infer<typeof refusalLinesSchema>[number];

export interface Refusals {
  /** Resolves when what it has made due is written; others are let in meanwhile. */
  note(refusal: Refusal): Promise<void> | undefined;
  /** Writes what there is. */
  flush(): Promise<void>;
}

export interface RefusalsOptions {
  readonly write: (lines: RefusalLine[]) => Promise<void>;
  readonly now: () => number;
  /** Told what was not written. */
  readonly log: (line: string) => void;
}

export const isNoted = (status: number): boolean => status === 401 || status === 403 || status === 429;

interface Counted {
  readonly first: Refusal;
  readonly since: string;
  count: number;
}

export function createRefusals({ write, now, log }: RefusalsOptions): Refusals {
  const known = new Map<string, Counted>();
  const strangers = new Map<string, Counted>();
  let others: Record<string, number> = {};
  let windowMs = WINDOW_MS;
  let nextAt = Number.NEGATIVE_INFINITY;
  let timer: ReturnType<typeof setTimeout> | undefined;

  function take(): RefusalLine[] {
    const lines = [...known.values(), ...strangers.values()].map(lineOf);
    const isFull = Object.keys(others).length > 0;
    if (isFull) lines.push({ tenant: null, actor: 'many', subject: 'many', detail: { others } });
    windowMs = isFull ? Math.min(2 * windowMs, WINDOW_MS_MAX) : WINDOW_MS;
    known.clear();
    strangers.clear();
    others = {};
    return lines;
  }

  async function flush(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    const lines = take();
    nextAt = now() + windowMs;
    if (lines.length === 0) return;
    await write(lines).catch((error: unknown) => {
      const told = error instanceof Error ? error.message : String(error);
      log(`${lines.length} lines about refusals are not in the audit log: ${told}`);
    });
  }

  return {
    flush,
    note(refusal) {
      const { code, caller, address = '' } = refusal;
      const lines = caller ? known : strangers;
      const name = [caller?.tenant, caller?.keyid, code, address].join('\n');
      const line = lines.get(name);
      if (line) line.count += 1;
      else if (lines.size < LINES_MAX)
        lines.set(name, { first: refusal, since: new Date(now()).toISOString(), count: 1 });
      else others[code] = (others[code] ?? 0) + 1;
      if (now() >= nextAt) return flush();
      timer ??= later(() => void flush(), nextAt - now());
      return undefined;
    },
  };
}

/** No process waits for it. */
function later(act: () => void, ms: number): ReturnType<typeof setTimeout> {
  const timer = setTimeout(act, ms);
  if (typeof timer === 'object' && 'unref' in timer) timer.unref();
  return timer;
}

function lineOf({ first, since, count }: Counted): RefusalLine {
  const { status, code, caller, address, method, path, requestId } = first;
  return {
    tenant: caller?.tenant ?? null,
    actor: caller?.keyid ?? 'unknown',
    subject: `${method} ${path}`.slice(0, SUBJECT_MAX).replace(/[^\x20-\x7e]/g, '?'),
    detail: { code, status, count, since, requestId, ...(address && { address }) },
  };
}
