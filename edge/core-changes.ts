// What cores elsewhere tell of their tensors, followed as long as the process lives: one stream from each. While one of them is silent,
// nobody may take anything for unchanged; when one speaks again, what was told meanwhile is lost, and all counts as changed.
import { tensorChangeSchema } from '../core/contract/tensor-changes.ts';
import { messagesOf } from './event-messages.ts';
import { type CoreElsewhere, send } from './reach.ts';

/** A core says something each second. */
const SILENT_MS_MAX = 2_500;
const PAUSE_MS = 1_000;
const PATH = '/v1/internal/changes';

export interface CoreChanges {
  /** Every core has been heard lately: what was not told has not happened, but for as long as a line takes to be found dead. */
  live(): boolean;
  /** Until the signal aborts. */
  follow(signal: AbortSignal): void;
}

/** Without a tenant: all may have changed. */
type Changed = (tenant?: string, key?: string) => void;

export function createCoreChanges(core: CoreElsewhere, changed: Changed): CoreChanges {
  const heardAt = new Map<string, number>();

  async function followOne(url: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await listen(url, signal).catch(() => {}); // it is away, which shows by its silence
      heardAt.delete(url);
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }

  async function listen(url: string, signal: AbortSignal): Promise<void> {
    const silent = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const hear = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silent.abort(new Error('it is silent')), SILENT_MS_MAX);
    };
    const ended = AbortSignal.any([signal, silent.signal]);
    hear();
    try {
      const answer = await send(core, url, { method: 'GET', path: PATH, signal: ended });
      if (answer.status !== 200 || !answer.body) return await answer.body?.cancel();
      let isFirst = true;
      for await (const { data } of messagesOf(answer.body, ended, (why) => new Error(`${PATH} ${why}`))) {
        hear();
        if (isFirst) changed();
        isFirst = false;
        heardAt.set(url, core.now());
        if (data !== undefined) tell(data);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  function tell(data: string): void {
    const change = tensorChangeSchema.safeParse(JSON.parse(data)).data;
    if (change) changed(change.tenant, change.key);
    else changed(); // a gap
  }

  return {
    live: () =>
      core.cores.urls.every((url) => (heardAt.get(url) ?? Number.NEGATIVE_INFINITY) > core.now() - SILENT_MS_MAX),
    follow(signal) {
      for (const url of core.cores.urls) void followOne(url, signal);
    },
  };
}
