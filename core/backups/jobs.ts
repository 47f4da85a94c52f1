// What is being done with backups: one thing at a time, told of as it goes on, and for a while after it ended. Whoever follows it
// gets how far it is, at most a few times a second, then its end; nobody who follows holds it up.
import { asProblem, Problem, type ProblemCode, problem } from '../contract/problems.ts';

const KEPT_MAX = 100;
const TOLD_MS = 100;

export type JobKind = 'create' | 'verify' | 'restore' | 'drill';

export interface JobProgress {
  /** What is done just now, as `copying`. */
  readonly step: string;
  readonly files: number;
  readonly of: number;
  readonly bytes: number;
}

export interface Job {
  readonly kind: JobKind;
  readonly state: 'running' | 'done' | 'failed';
  readonly startedMs: number;
  readonly endedMs: number | undefined;
  readonly progress: JobProgress;
  /** What it came to. */
  readonly result: Readonly<Record<string, unknown>> | undefined;
  readonly fault: { readonly code: ProblemCode; readonly status: number; readonly detail: string } | undefined;
}

/** `id` counts what was told. */
export type JobEvent = Job & { readonly id: number; readonly type: 'progress' | 'done' | 'failed' };
export type Tell = (step: string) => (progress: Omit<JobProgress, 'step'>) => void;

export interface Jobs {
  readonly running: string | undefined;
  of(id: string): Job | undefined;
  /** Throws `backup_busy` if something is under way; else resolves, or fails, as the work does. */
  run<T extends Readonly<Record<string, unknown>>>(
    kind: JobKind,
    id: string,
    work: (tell: Tell) => Promise<T>,
  ): Promise<T>;
  /** A number when there was nothing to tell for `quietMs`. Nothing at all if there is no such job. */
  follow(id: string, quietMs: number, signal: AbortSignal): AsyncGenerator<JobEvent | number, void, void>;
  /** Nothing else is under way meanwhile; what is now is waited for. */
  alone<T>(what: string, work: () => Promise<T>): Promise<T>;
  /** What is under way gives up at the next file. */
  close(): Promise<void>;
}

type Known = { -readonly [K in keyof Job]: Job[K] } & { told: number; toldMs: number; readonly wake: Set<() => void> };

const NOTHING: JobProgress = { step: 'beginning', files: 0, of: 0, bytes: 0 };

export function createJobs(now: () => number): Jobs {
  const jobs = new Map<string, Known>();
  let running: { readonly id: string; readonly kind: string; readonly ended: Promise<unknown> } | undefined;
  let isClosing = false;

  function begin(kind: JobKind, id: string): Known {
    jobs.delete(id);
    const [oldest] = jobs.keys();
    if (jobs.size >= KEPT_MAX && oldest !== undefined) jobs.delete(oldest);
    const job: Known = {
      ...{ kind, state: 'running', startedMs: now(), endedMs: undefined, progress: NOTHING },
      ...{ result: undefined, fault: undefined, told: 1, toldMs: 0, wake: new Set() },
    };
    jobs.set(id, job);
    return job;
  }

  function tellAll(job: Known): void {
    job.told++;
    job.toldMs = performance.now();
    for (const wake of [...job.wake]) wake();
  }

  function assertFree(): void {
    if (isClosing) throw problem('stopping', 'The server stops.');
    if (running)
      throw problem('backup_busy', `${running.id} is under way (${running.kind}). Wait for its end, then ask again.`, {
        running: running.id,
      });
  }

  async function carryOut<T extends Readonly<Record<string, unknown>>>(
    job: Known,
    work: (tell: Tell) => Promise<T>,
  ): Promise<T> {
    const tell: Tell = (step) => (progress) => {
      if (isClosing) throw problem('stopping', 'The server stops: what was under way is given up.');
      job.progress = { step, ...progress };
      if (performance.now() - job.toldMs >= TOLD_MS) tellAll(job);
    };
    try {
      const result = await work(tell);
      Object.assign(job, { state: 'done', result });
      return result;
    } catch (error) {
      const { code, status, message: detail } = asProblem(error);
      const said = error instanceof Problem ? detail : String(error);
      Object.assign(job, { state: 'failed', fault: { code, status, detail: said } });
      throw error;
    } finally {
      job.endedMs = now();
      running = undefined;
      tellAll(job);
    }
  }

  return {
    get running() {
      return running?.id;
    },
    of: (id) => jobs.get(id),
    run(kind, id, work) {
      assertFree();
      const job = begin(kind, id);
      const ended = Promise.resolve().then(() => carryOut(job, work));
      running = { id, kind, ended };
      return ended;
    },
    async alone(what, work) {
      while (running) await running.ended.catch(() => {});
      const ended = Promise.resolve()
        .then(work)
        .finally(() => {
          running = undefined;
        });
      running = { id: what, kind: what, ended };
      return ended;
    },
    async *follow(id, quietMs, signal) {
      const job = jobs.get(id);
      let seen = 0;
      while (job && !signal.aborted) {
        if (job.told === seen) yield seen;
        else {
          seen = job.told;
          const { told: _, toldMs, wake, ...face } = job;
          yield { ...face, id: seen, type: job.state === 'running' ? 'progress' : job.state };
          if (job.state !== 'running' && job.told === seen) return;
        }
        if (job.told === seen) await nextOf(job, quietMs, signal);
      }
    },
    async close() {
      isClosing = true;
      await running?.ended.catch(() => {});
    },
  };
}

/** Resolves when there is more to tell, at the latest after `quietMs`. */
function nextOf({ wake }: Known, quietMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      wake.delete(end);
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, quietMs);
    wake.add(end);
    signal.addEventListener('abort', end);
  });
}
