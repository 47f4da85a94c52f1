// What is asked of held blocks beside reading them: what is there and why no more, pins, forgetting, another form, another place.
// All but clear speak of the longest held beginning of a sequence. What others alone have stored under a salt may be looked up
// pinned and prefetched by whoever knows the salt, and is neither recoded, moved nor cleared by them.
import { type Form, isRotated, parseRecordCodec, sameForm } from '../../codec/pages.ts';
import type { KvBlock as KvBlockAnswer, KvShape } from '../../contract/kv.ts';
import type {
  KvClearAnswer,
  KvLookupAnswer,
  KvMoveAnswer,
  KvPinAnswer,
  KvPrefetchAnswer,
  KvRecodeAnswer,
  KvUnpinAnswer,
} from '../../contract/kv-calls.ts';
import { problem } from '../../contract/problems.ts';
import type { Pieces } from '../../gpu/pieces.ts';
import type { Pool } from '../../gpu/pool.ts';
import { inSlices } from '../slices.ts';
import { type Match, type Root, scopeOf } from './blocks.ts';
import type { KvBook } from './book.ts';
import { clear, type KvClearOptions } from './clear.ts';
import type { Demotion } from './demotion.ts';
import type { HeldPages, Kept, KvBlock, Wanted } from './held.ts';
import { explain } from './lookup.ts';
import { moveBlock } from './moves.ts';
import type { Pins } from './pins.ts';
import { recode } from './recode.ts';
import type { Returns } from './returns.ts';

export interface KvOwner {
  readonly tenant: string;
  readonly salt?: string | undefined;
  readonly model: string;
}

/** Tokens of a sequence, whose they are. */
export interface KvAsked extends KvOwner {
  readonly tokens: Int32Array;
}

export interface KvLookupOptions extends KvAsked {
  readonly explain: boolean;
  readonly use: boolean;
  readonly layout: { readonly [name in keyof KvShape]?: number | undefined };
}

export interface KvCalls {
  lookup(asked: KvLookupOptions): KvLookupAnswer;
  pin(asked: KvAsked & { readonly ttl: number }): KvPinAnswer;
  unpin(asked: { readonly tenant: string; readonly pin: string } | KvAsked): KvUnpinAnswer;
  /** Resolves once no start would find it again. */
  clear(asked: KvClearOptions): Promise<KvClearAnswer>;
  recode(asked: KvAsked & { codecK: string; codecV: string; signal: AbortSignal }): Promise<KvRecodeAnswer>;
  move(asked: KvAsked & { to: KvTarget; signal: AbortSignal }): Promise<KvMoveAnswer>;
  /** Out of memory and off the disk to adapters, before somebody reads it. */
  prefetch(asked: KvAsked & { signal: AbortSignal }): Promise<KvPrefetchAnswer>;
}

export type KvTarget = { readonly adapter: string } | { readonly tier: 'hot' | 'cold' | 'disk' };

/** Blocks that are packed at a time. */
const PACKED_AT_ONCE = 32;

type Acting = KvAsked & { readonly signal: AbortSignal };
type Fate = 'moved' | 'already' | 'noRoom' | 'gone';

export interface CallsOptions {
  readonly held: HeldPages;
  readonly returns: Pick<Returns, 'fetch'>;
  readonly pack: Demotion['pack'];
  readonly book: KvBook;
  readonly pins: Pins;
  readonly pool: Pool;
  readonly pieces: Pieces;
  readonly longest: (asked: KvAsked, fits: (shape: KvShape) => boolean) => Longest | undefined;
  readonly face: (block: KvBlock) => KvBlockAnswer;
}

export interface Longest {
  readonly root: Root;
  readonly match: Match<Kept>;
}

export function openCalls({ held, returns, pack, book, pins, pool, pieces, longest, face }: CallsOptions): KvCalls {
  const { blocks } = held;
  const { stakes, history } = book;

  /** The blocks that are held; throws where there is none. */
  function beginningOf(asked: KvAsked): Match<Kept> {
    const found = longest(asked, () => true);
    if (found) return found.match;
    throw problem('kv_unknown', `Of these ${asked.tokens.length} tokens none are held.`, { matchedTokens: 0 });
  }

  /**
   * One after the other, held meanwhile, as far as the tenant has stored them, once they are ready for it; `act` says what
   * became of each.
   */
  async function each<K extends string>(
    asked: KvAsked & { signal: AbortSignal },
    counts: Record<K | 'others' | 'gone', number>,
    act: (block: KvBlock) => K | Promise<K>,
    prepare: (own: readonly KvBlock[], signal: AbortSignal) => Promise<void> = returns.fetch,
  ): Promise<number> {
    const match = beginningOf(asked);
    const release = blocks.hold(match.blocks);
    try {
      const own = match.blocks.filter((block) => stakes.has(block, asked.tenant));
      await prepare(own, asked.signal);
      for (const block of match.blocks) {
        asked.signal.throwIfAborted();
        const fate = block.removed ? 'gone' : stakes.has(block, asked.tenant) ? await act(block) : 'others';
        counts[fate]++;
      }
    } finally {
      release();
    }
    return match.tokens;
  }

  async function moveTo(adapter: string, asked: Acting): Promise<KvMoveAnswer> {
    pool.lease({ adapter }).release(); // says now what no block could say better
    return counted(asked, async (block) => {
      if (block.kept.hot?.lease.adapter === adapter) return 'already';
      const room = (wanted: Wanted) => held.leaseNear({ adapter }, wanted);
      const isMoved = await moveBlock(block, held, pieces, asked.signal, room);
      return isMoved ? 'moved' : 'noRoom';
    });
  }

  /** Into memory, from adapters or disk: what is in use on adapters now is read to its end. */
  function putAway(asked: Acting): Promise<KvMoveAnswer> {
    const lifted = new Set<KvBlock>();
    return counted(
      asked,
      (block) => {
        const { hot, cold } = block.kept;
        if (!cold) return 'noRoom';
        if (!hot) return lifted.has(block) ? 'moved' : 'already';
        return held.cool(block) ? 'moved' : 'noRoom';
      },
      (own, signal) =>
        inBatches(own, async (some) => {
          await pack(some, signal);
          for (const block of some) if (!block.kept.hot && (await lift(block))) lifted.add(block);
        }),
    );
  }

  /** From disk into memory; false where it was there, or found no room. */
  async function lift(block: KvBlock): Promise<boolean> {
    const found = block.kept.cold ? undefined : await held.disk.read(block);
    const room =
      found && !block.removed && !block.kept.cold
        ? held.shelf.reserve({ tenant: block.kept.tenant, bytes: found.bytes })
        : undefined;
    if (found && !block.removed) room?.put(block, found);
    room?.release();
    return room !== undefined;
  }

  function putOnDisk(asked: Acting): Promise<KvMoveAnswer> {
    return counted(
      asked,
      (block) => {
        if (block.kept.disk && !block.kept.hot && !block.kept.cold) return 'already';
        return held.sink(block) ? 'moved' : 'noRoom';
      },
      (own, signal) =>
        inBatches(own, async (some) => {
          await pack(
            some.filter(({ kept }) => !kept.disk),
            signal,
          );
          await held.disk.write(some);
        }),
    );
  }

  async function inBatches(own: readonly KvBlock[], act: (some: readonly KvBlock[]) => Promise<void>): Promise<void> {
    for (let at = 0; at < own.length; at += PACKED_AT_ONCE) await act(own.slice(at, at + PACKED_AT_ONCE));
  }

  function bringUp(asked: Acting): Promise<KvMoveAnswer> {
    const cold = new Set<KvBlock>();
    return counted(
      asked,
      (block) => (block.kept.hot ? (cold.has(block) ? 'moved' : 'already') : 'noRoom'),
      async (own, signal) => {
        for (const block of own) if (!block.kept.hot) cold.add(block);
        await returns.fetch(own, signal);
      },
    );
  }

  /** The answer of a move; bytes are those of what has moved, where it is now. */
  async function counted(
    asked: Acting,
    act: (block: KvBlock) => Fate | Promise<Fate>,
    prepare?: Parameters<typeof each>[3],
  ): Promise<KvMoveAnswer> {
    const counts = { moved: 0, already: 0, noRoom: 0, others: 0, gone: 0 };
    let bytes = 0;
    const place = async (block: KvBlock): Promise<Fate> => {
      const fate = await act(block);
      if (fate === 'moved') bytes += face(block).storedBytes;
      return fate === 'noRoom' && block.removed ? 'gone' : fate;
    };
    const matchedTokens = await each(asked, counts, place, prepare);
    const { moved, already, ...left } = counts;
    return { matchedTokens, moved, bytes, already, left };
  }

  return {
    lookup({ explain: isExplained, use, layout, ...asked }) {
      const fits = (shape: KvShape) =>
        (['layers', 'kvHeads', 'dim'] as const).every((name) => (layout[name] ?? shape[name]) === shape[name]);
      const found = longest(asked, fits);
      if (found && use) blocks.touch(found.match.blocks);
      const answer = { matchedTokens: found?.match.tokens ?? 0, blocks: (found?.match.blocks ?? []).map(face) };
      if (!isExplained) return answer;
      const scope = scopeOf(asked.tenant, asked.salt);
      return { ...answer, explain: explain({ ...asked, scope, fits }, found?.match, { blocks, stakes, history }) };
    },
    pin({ ttl, ...asked }) {
      const match = beginningOf(asked);
      const scope = scopeOf(asked.tenant, asked.salt);
      const { pin, expiresAt } = pins.pin({ ...asked, scope }, match.blocks, ttl);
      blocks.touch(match.blocks, { priority: 0, expiresAt });
      const pinned = { matchedTokens: match.tokens, pinnedBlocks: match.blocks.length };
      return { pin, ...pinned, expiresAt: new Date(expiresAt).toISOString() };
    },
    unpin(asked) {
      if ('pin' in asked) return { pins: pins.unpin(asked.tenant, asked.pin) };
      return { pins: pins.unpinTokens({ ...asked, scope: scopeOf(asked.tenant, asked.salt) }) };
    },
    async clear(asked) {
      const { isPinned } = pins;
      const { passOn } = held;
      const bytesOf = (block: KvBlock) => face(block).storedBytes;
      const parts = { blocks, book, isPinned, bytesOf, passOn, shared: held.disk.noted };
      const done = await inSlices(clear(asked, parts));
      await held.disk.wiped();
      return done;
    },
    async recode({ codecK, codecV, ...asked }) {
      const counts = { recoded: 0, already: 0, coded: 0, noRoom: 0, others: 0, gone: 0 };
      const matchedTokens = await each(asked, counts, async (block) => {
        const { form } = block.kept.hot ?? {};
        if (!form) return 'noRoom';
        const wanted: Form = { k: recordOf(codecK, form.k), v: recordOf(codecV, form.v) };
        if (sameForm(form, wanted)) return 'already';
        if (isRotated(form.k) || isRotated(form.v)) return 'coded';
        await recode(block, wanted, held, asked.signal).catch((error: unknown) => {
          if (!block.removed) throw error; // it was damaged, or lost
        });
        if (block.removed) return 'gone';
        return block.kept.hot && sameForm(block.kept.hot.form, wanted) ? 'recoded' : 'noRoom';
      });
      const { recoded, already, ...left } = counts;
      return { matchedTokens, recoded, already, left };
    },
    async move({ to, ...asked }) {
      if ('adapter' in to) return moveTo(to.adapter, asked);
      if (to.tier === 'disk') return putOnDisk(asked);
      return to.tier === 'cold' ? putAway(asked) : bringUp(asked);
    },
    async prefetch({ signal, ...asked }) {
      const { blocks: all, tokens } = beginningOf(asked);
      const cold = all.filter(({ kept }) => !kept.hot);
      await returns.fetch(all, signal);
      const returned = cold.filter(({ kept }) => kept.hot);
      return {
        ...{
          matchedTokens: tokens,
          returned: returned.length,
          bytes: returned.reduce((sum, block) => sum + face(block).storedBytes, 0),
        },
        ...{ already: all.length - cold.length, left: cold.length - returned.length },
      };
    },
  };
}

/** `raw` leaves it as it is; the dtype is that of raw only. */
const recordOf = (codec: string, now: Form['k']): Form['k'] => (codec === 'raw' ? now : parseRecordCodec(codec, 'F16'));
