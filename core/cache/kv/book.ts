// The book of what happens to blocks, kept for those who have stored them: their stakes, what left and why, and the events
// that they may follow. Whoever only reads what others have stored under a salt is told nothing of it.
import type { KvCause, KvEvent } from '../../contract/kv-calls.ts';
import { createEvents, type KvEvents } from './events.ts';
import type { KvBlock } from './held.ts';
import { createHistory, type KvHistory } from './history.ts';
import { createStakes, type Stakes } from './stakes.ts';

/** Of one event: what is kept of a log has a bound in bytes by that. */
const HASHES_MAX = 8;

export interface KvBook {
  readonly stakes: Stakes;
  readonly history: KvHistory;
  readonly events: KvEvents;
  /** The tenant has stored this chain, from its first block on. */
  stored(chain: readonly KvBlock[], tenant: string): void;
  /** A block is out of the index. */
  left(block: KvBlock, cause: KvCause): void;
  /** The tenant wants it no more; to be told so here, unless that is told of all. */
  forgotten(block: KvBlock, tenant: string, tell: boolean): void;
  /** Its bytes lie elsewhere now. */
  moved(block: KvBlock): void;
}

/** Where a block lies, as callers see it. */
export type Place = (block: KvBlock) => { tier: string; adapter: string | null };

export function createBook(now: () => number, placeOf: Place, joined?: (block: KvBlock) => void): KvBook {
  const stakes = createStakes();
  const history = createHistory();
  const events = createEvents(now);

  function stored(chain: readonly KvBlock[], tenant: string): void {
    const fresh = stakes.take(chain, tenant);
    for (const block of fresh) {
      history.forget(tenant, block.hash);
      joined?.(block);
    }
    for (let at = 0; at < fresh.length; ) {
      const run = runFrom(fresh, at);
      events.tell(tenant, storedEvent(run));
      at += run.length;
    }
  }

  /** Blocks in one place that follow each other. */
  function runFrom(fresh: readonly KvBlock[], at: number): KvBlock[] {
    const run: KvBlock[] = [];
    const place = (block: KvBlock) => JSON.stringify(placeOf(block));
    for (const block of fresh.slice(at, at + HASHES_MAX)) {
      const last = run.at(-1);
      if (last && (block.parent !== last || place(block) !== place(last))) break;
      run.push(block);
    }
    return run;
  }

  function storedEvent(run: readonly KvBlock[]): KvEvent {
    const [first] = run;
    if (!first) throw new Error('no blocks were to be told of');
    return {
      type: 'BlockStored',
      hashes: run.map(({ hash }) => hash),
      parentHash: first.parent?.hash ?? null,
      tokens: run.reduce((sum, { tokens }) => sum + tokens.length, 0),
      model: first.root.model,
      ...placeOf(first),
    };
  }

  function leave(block: KvBlock, tenant: string, cause: KvCause, tell: boolean): void {
    history.note(tenant, block, { when: now(), cause });
    if (tell) events.tell(tenant, { type: 'BlockRemoved', hash: block.hash, cause });
  }

  return {
    stakes,
    history,
    events,
    stored,
    left(block, cause) {
      for (const tenant of stakes.tenantsOf(block)) leave(block, tenant, cause, true);
      stakes.drop(block);
    },
    forgotten: (block, tenant, tell) => leave(block, tenant, 'cleared', tell),
    moved(block) {
      for (const tenant of stakes.tenantsOf(block))
        events.tell(tenant, { type: 'BlockMoved', hash: block.hash, ...placeOf(block) });
    },
  };
}
