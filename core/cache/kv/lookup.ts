// Why no more of a sequence is held than is. What is said is of blocks that the caller's own tenant has stored, under whatever
// salt, and of nobody else's: whoever shares a salt finds what lies under it, and learns nothing of what does not.
// What is right there comes first (expired, or gone), then what lies elsewhere, then what is like it.
import { BLOCK_TOKENS } from '../../codec/pages.ts';
import type { KvShape } from '../../contract/kv.ts';
import type { KvExplanation } from '../../contract/kv-calls.ts';
import type { Block, Blocks, Match, Root } from './blocks.ts';
import type { KvHistory } from './history.ts';
import type { Stakes } from './stakes.ts';

/** Continuations that are compared with what was asked for; where more are held, the rest is not looked at. */
const NEAREST_MAX = 4096;
/** Roots that are tried, of those here and of those elsewhere: the last ones that were stored under. */
const ROOTS_MAX = 8;

export interface Asked {
  readonly tenant: string;
  readonly scope: string;
  readonly model: string;
  readonly tokens: Int32Array;
  readonly fits: (shape: KvShape) => boolean;
}

export interface Known {
  readonly blocks: Blocks<unknown>;
  readonly stakes: Pick<Stakes, 'has' | 'rootsOf'>;
  readonly history: Pick<KvHistory, 'find' | 'roots'>;
}

/** Null where all is held. */
export function explain(asked: Asked, match: Match<unknown> | undefined, known: Known): KvExplanation | null {
  const at = match?.tokens ?? 0;
  const rest = asked.tokens.subarray(at, at + BLOCK_TOKENS);
  if (rest.length === 0) return null;
  const before = match?.blocks.at(-1);
  const near = rootsHere(asked, before, known).map((root) => nearest(root, before, rest, asked.tenant, known));
  const best = near.toSorted((a, b) => b.agreeing - a.agreeing)[0];
  if (best?.block && best.agreeing === rest.length) return { reason: 'expired', at, when: iso(best.block.expiresAt) };
  return (
    gone(asked, before, at, rest, known) ??
    elsewhere(asked, at, known) ??
    (best?.block && (at > 0 || best.agreeing > 0)
      ? { reason: 'diverges', at: at + best.agreeing, agreeing: best.agreeing }
      : undefined) ??
    (rest.length < BLOCK_TOKENS ? { reason: 'shorter_than_block', at, tokens: rest.length } : { reason: 'unknown', at })
  );
}

/** The roots at which the next block would be: that of the block before, or all that the tenant has or had here. */
function rootsHere({ tenant, scope, model, fits }: Asked, before: Block<unknown> | undefined, known: Known): Root[] {
  if (before) return [before.root];
  const all = [...known.stakes.rootsOf(tenant), ...known.history.roots(tenant)];
  const here = all.filter((root) => root.scope === scope && root.model === model && fits(root.shape));
  return [...new Map(here.map((root) => [root.hash.toString('hex'), root])).values()].slice(-ROOTS_MAX);
}

/** Of the tenant's blocks that are held there, the one that agrees longest. */
function nearest(root: Root, before: Block<unknown> | undefined, rest: Int32Array, tenant: string, known: Known) {
  let best: { block: Block<unknown> | undefined; agreeing: number } = { block: undefined, agreeing: -1 };
  let looked = 0;
  for (const block of known.blocks.following(root, before)) {
    if (++looked > NEAREST_MAX) break;
    if (!known.stakes.has(block, tenant)) continue;
    const agreeing = agreement(block.tokens, rest);
    if (agreeing > best.agreeing) best = { block, agreeing };
  }
  return best;
}

function agreement(a: Int32Array, b: Int32Array): number {
  let i = 0;
  while (i < b.length && a[i] === b[i]) i++;
  return i;
}

/** It was there, and left. */
function gone(
  asked: Asked,
  before: Block<unknown> | undefined,
  at: number,
  rest: Int32Array,
  known: Known,
): KvExplanation | undefined {
  if (rest.length < BLOCK_TOKENS) return undefined;
  for (const root of rootsHere(asked, before, known)) {
    const left = known.history.find(asked.tenant, known.blocks.nameOf(root, before, rest));
    if (!left) continue;
    const when = iso(left.when);
    if (left.cause === 'evicted') return { reason: 'evicted', at, when, policy: known.blocks.policy };
    return { reason: left.cause, at, when };
  }
  return undefined;
}

/** More of it is held, in another layout or under another salt. */
function elsewhere(
  { tenant, scope, model, tokens, fits }: Asked,
  at: number,
  { blocks, stakes }: Known,
): KvExplanation | undefined {
  const others = stakes
    .rootsOf(tenant)
    .filter((root) => root.model === model && (root.scope !== scope || !fits(root.shape)));
  let best: { root: Root; matched: number } | undefined;
  for (const root of others.slice(-ROOTS_MAX)) {
    const matched = ownTokens(blocks.match(root, tokens), tenant, stakes);
    if (matched > (best?.matched ?? at)) best = { root, matched };
  }
  if (!best) return undefined;
  const reason = best.root.scope === scope ? 'other_layout' : 'other_salt';
  return { reason, at, matchedTokens: best.matched };
}

/** Who has stored a block has stored those before it. */
function ownTokens({ blocks, tokens }: Match<unknown>, tenant: string, stakes: Known['stakes']): number {
  const others = blocks.findIndex((block) => !stakes.has(block, tenant));
  return others < 0 ? tokens : others * BLOCK_TOKENS;
}

const iso = (time: number): string => new Date(time).toISOString();
