// Which KV is held: blocks of tokens, chained by hash from the first one on, and who leaves first when room is short.
// A chain begins at a root: whose it is (a salt, or the tenant), which model, which layout, how K is turned. Blocks of two roots never meet.
// A block is found by its hash and then compared token by token: a collision is a miss, never another's answer.
// Only a block that none follows may leave, unless somebody holds it; `leaving` offers those of the lowest priority first, and of one
// priority as the strategy says (prefix/eviction.ts), and of several parties that of whose turn it is. A tier is a part of them: of those in it, whoever none in it follows may leave it.
// Who expires is no longer matched, and there until it is removed, or used anew.
// Names, trees, uses and ranks lie in typed arrays (prefix/), found by slot; an object for each is what callers hold in hand.
// Bookkeeping only: nothing here waits, and what is kept of a block is not known here (`P`).
// Invariants: each block but a chain's first has its parent held, which lives as long and is wanted as much, or more; `size`
// counts what `find` can find.
import { createHash } from 'node:crypto';
import type { KvShape, Rope } from '../../contract/kv.ts';
import type { KvCause } from '../../contract/kv-calls.ts';
import { type Course, DEFAULT_COURSE } from '../course.ts';
import { grown } from '../policy/grown.ts';
import { NONE } from '../policy/policy.ts';
import { createEviction, type EvictionReport, type Turn } from '../prefix/eviction.ts';
import { createNextHash, hexOfHash } from '../prefix/hashes.ts';
import { HASH_WORDS } from '../prefix/records.ts';
import { PrefixTree } from '../prefix/tree.ts';
import { createExpiry } from './expiry.ts';

export interface Root {
  readonly hash: Buffer;
  readonly scope: string;
  readonly model: string;
  readonly shape: KvShape;
  /** K is stored as it was before this rotary embedding; undefined where it is stored as it came. */
  readonly rope: Rope | undefined;
}

export interface Block<P> {
  readonly hash: string;
  readonly root: Root;
  /** Undefined for the first of a chain. */
  readonly parent: Block<P> | undefined;
  /** How many come before it. */
  readonly index: number;
  /** Its own only once it is removed: not to be written to. */
  tokens: Int32Array;
  readonly kept: P;
  /** In the index, as long as it is not removed. */
  readonly slot: number;
  /** Who reads or writes it now: it must not leave. */
  holders: number;
  /** No longer found; what is kept of it goes with its last holder. */
  removed: boolean;
  /** 0 to 100, the highest that was asked for. */
  priority: number;
  /** The latest that was asked for; infinite where it never expires. */
  expiresAt: number;
  /** Who has stored it, a bit each (stakes.ts). */
  stakes: number;
  /** Which tiers it is in, a bit each. */
  tiers: number;
  /** Nobody has asked for it yet. */
  isFresh: boolean;
}

/** How much, and until when, a block is wanted. */
export interface Wish {
  readonly priority: number;
  readonly expiresAt: number;
}

const USUAL: Wish = { priority: 50, expiresAt: Number.POSITIVE_INFINITY };

export interface BlocksOptions<P> {
  readonly blockTokens: number;
  /** By which strategy they leave, and what a hit counts for; may change at any time, `follow` tells. */
  readonly course?: Course;
  /** The tiers that a block is in by what is kept of it, by name; none, if it is not given. */
  readonly tiersOf?: (kept: P) => readonly string[];
  /** Whose it is, from 0 on; all of one party, if it is not given. Another's only by `changeParty`. */
  readonly partyOf?: (kept: P) => number;
  /** How many blocks there is room for, as far as one can tell. */
  readonly capacity?: () => number;
  readonly bytesOf?: (kept: P) => number;
  readonly now: () => number;
  /** It is out of the index, and nobody holds it any more. */
  readonly gone: (block: Block<P>) => void;
  /** It is out of the index. */
  readonly left: (block: Block<P>, cause: KvCause) => void;
}

export interface Match<P> {
  /** The blocks that hold the tokens, in order. */
  readonly blocks: readonly Block<P>[];
  /** Tokens matched: all of the blocks', or fewer where only the beginning of the last is asked for. */
  readonly tokens: number;
}

export interface Blocks<P> {
  readonly size: number;
  /** By what rule blocks leave now. */
  readonly policy: string;
  /** What the strategy has found out. */
  report(): EvictionReport;
  /** The course is another. */
  follow(): void;
  /** What is kept of the block has changed, so that it may be in other tiers. */
  changed(block: Block<P>): void;
  /** It is another party's once `change` is done. */
  changeParty(block: Block<P>, change: () => void): void;
  /** It has no blocks any more. */
  dropParty(party: number): void;
  /** Wanted as much and as long as before, or as is wished here. */
  want(block: Block<P>, wish: Wish): void;
  /** Just asked for: a chain from its first block on. Wanted as much and as long as before, or as is wished here. */
  touch(chain: readonly Block<P>[], wish?: Wish): void;
  /** The block after `parent` with just these tokens, expired or not. */
  find(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined;
  /** The longest held beginning of a sequence; of its last tokens, a held block's beginning will do. Nothing that has expired. */
  match(root: Root, tokens: Int32Array): Match<P>;
  /** What the block after `parent` with just these tokens is called, held or not. */
  nameOf(root: Root, parent: Block<P> | undefined, tokens: Int32Array): string;
  /** Blocks after `parent`; first ones without it. */
  following(root: Root, parent: Block<P> | undefined): Iterable<Block<P>>;
  /** The layouts that are held for a scope and model. */
  layouts(scope: string, model: string): Root[];
  /** After its parent, which is wanted as much and as long; `find` has said that it is not there. */
  insert(root: Root, parent: Block<P> | undefined, tokens: Int32Array, kept: P, wish?: Wish): Block<P>;
  /** Out of the index, with all that follow it, so many; `gone` is told of each as soon as nobody holds it. */
  remove(block: Block<P>, cause: KvCause): number;
  /** They stay; whoever holds a block and not what it follows may see it removed with that. */
  hold(blocks: readonly Block<P>[]): () => void;
  /** Blocks that may leave, or those that may leave a tier, the first one first; whoever takes one does so before asking for the next. */
  leaving(tier?: string, turn?: Turn): Generator<Block<P>, void, void>;
  /** The same, each as if those before it had left; nobody comes or goes meanwhile. */
  wouldLeave(tier: string, turn?: Turn): Generator<Block<P>, void, void>;
  /** None follows it. */
  isLast(block: Block<P>): boolean;
  /** It, and all that follow it. */
  withFollowing(block: Block<P>): Block<P>[];
  /**
   * Those that have expired, that nobody holds and none follows, the last of a chain first; whoever asks removes one before
   * asking for the next. Others may come and go meanwhile.
   */
  expired(): Generator<Block<P>, void, void>;
  all(): Iterable<Block<P>>;
}

const VERSION = 'blatam kv 1';

/** Tenants share an answer only where they share a salt. */
export const scopeOf = (tenant: string, salt: string | undefined): string =>
  salt === undefined ? `tenant ${tenant}` : `salt ${salt}`;

export function rootOf(scope: string, model: string, shape: KvShape, blockTokens: number, rope?: Rope): Root {
  const turned = rope ? [rope.theta, rope.scale, rope.pairs, rope.dims] : [];
  const parts = [VERSION, scope, model, shape.layers, shape.kvHeads, shape.dim, blockTokens, ...turned];
  return { hash: createHash('sha256').update(JSON.stringify(parts)).digest(), scope, model, shape, rope };
}

/** Of the tree that it stands in, and of those that are in a tier by themselves. */
interface Tier {
  readonly number: number;
  readonly mark: number;
  /** By slot: how many in the tier follow it. */
  following: Int32Array<ArrayBuffer>;
}
const TIERS_MAX = 31;

interface Standing {
  readonly root: Root;
  readonly place: number;
  count: number;
}

const ownerOf = ({ scope, model }: Pick<Root, 'scope' | 'model'>): string => JSON.stringify([scope, model]);

export function createBlocks<P>(options: BlocksOptions<P>): Blocks<P> {
  const { blockTokens, now, gone, left, course = DEFAULT_COURSE } = options;
  const tree = new PrefixTree(blockTokens);
  const bySlot: (Block<P> | undefined)[] = [];
  const eviction = createEviction({
    tree,
    strategy: course.strategy,
    objective: () => course.objective,
    capacity: options.capacity ?? (() => tree.count),
    bytesOf: (slot) => options.bytesOf?.(at(slot).kept) ?? 1,
    partyOf: (slot) => options.partyOf?.(at(slot).kept) ?? 0,
    mayLeave: (slot) => tree.isFree(slot) && at(slot).holders === 0,
    portfolio: course.adjustEvery === undefined ? {} : { interval: course.adjustEvery },
  });
  const roots = new Map<string, Standing>();
  /** The same by scope and model: how many there are in all is nothing to those who look for theirs. */
  const layouts = new Map<string, Set<Root>>();
  const tiers = new Map<string, Tier>();
  const expiry = createExpiry<Block<P>>();
  const name = createNextHash();
  /** The name that is looked for. */
  const words = new Uint32Array(HASH_WORDS);

  function at(slot: number): Block<P> {
    const block = bySlot[slot];
    if (!block) throw new Error(`there is no block in slot ${slot}`);
    return block;
  }

  /** Of a root that has no blocks there is no place. */
  const placeOf = (root: Root, parent: Block<P> | undefined): number | undefined =>
    parent ? parent.slot : roots.get(root.hash.toString('hex'))?.place;

  const look = (root: Root, parent: Block<P> | undefined, tokens: Int32Array): void =>
    name(parent ? Buffer.from(parent.hash, 'hex') : root.hash, tokens, words, 0);

  function nameOf(root: Root, parent: Block<P> | undefined, tokens: Int32Array): string {
    look(root, parent, tokens);
    return hexOfHash(words, 0);
  }

  function find(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined {
    const place = parent?.removed ? undefined : placeOf(root, parent);
    if (place === undefined || tokens.length !== blockTokens) return undefined;
    look(root, parent, tokens);
    const slot = tree.find(place, words, 0, tokens);
    return slot === NONE ? undefined : bySlot[slot];
  }

  function match(root: Root, tokens: Int32Array): Match<P> {
    const found: Block<P>[] = [];
    let at = 0;
    while (at + blockTokens <= tokens.length) {
      const block = find(root, found.at(-1), tokens.subarray(at, at + blockTokens));
      if (!block || block.expiresAt <= now()) break;
      found.push(block);
      at += blockTokens;
    }
    const rest = tokens.subarray(at);
    const partial = rest.length > 0 && rest.length < blockTokens ? beginsWith(root, found.at(-1), rest) : undefined;
    if (partial) found.push(partial);
    return { blocks: found, tokens: partial ? tokens.length : at };
  }

  /** A block after `parent` whose first tokens are these. */
  function beginsWith(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined {
    const place = placeOf(root, parent);
    if (place === undefined) return undefined;
    const lives = (slot: number) => (bySlot[slot]?.expiresAt ?? 0) > now();
    const slot = tree.beginningWith(place, tokens, lives);
    return slot === NONE ? undefined : bySlot[slot];
  }

  function* following(root: Root, parent: Block<P> | undefined): Generator<Block<P>, void, void> {
    const place = parent?.removed ? undefined : placeOf(root, parent);
    if (place !== undefined) for (const slot of tree.behind(place)) yield at(slot);
  }

  function touch(chain: readonly Block<P>[], wish?: Wish): void {
    for (const block of wish ? chain : []) if (wish) want(block, wish);
    const slots = Int32Array.from(chain, ({ slot }) => slot);
    const fresh = chain.findIndex(({ isFresh }) => isFresh);
    eviction.asked(slots, slots.length, fresh === -1 ? slots.length : fresh);
    for (const block of chain) block.isFresh = false;
  }

  function want(block: Block<P>, { priority, expiresAt }: Wish): void {
    block.priority = Math.max(block.priority, priority);
    eviction.prefer(block.slot, block.priority);
    if (block.removed || expiresAt <= block.expiresAt) return;
    expiry.set(block, block.expiresAt, expiresAt);
    block.expiresAt = expiresAt;
  }

  function insert(root: Root, parent: Block<P> | undefined, tokens: Int32Array, kept: P, wish = USUAL): Block<P> {
    if (tokens.length !== blockTokens) throw new Error(`a block of ${tokens.length} tokens was to be inserted`);
    if (parent?.removed) throw new Error('a block was to follow one that is no longer held');
    const hash = nameOf(root, parent, tokens);
    const other = tree.named(words, 0);
    if (other !== NONE) remove(at(other), 'lost'); // a collision of hashes, or our bug: the latest is the one that is found
    const standing = stand(root);
    look(root, parent, tokens); // whoever was told of the other may have looked for a name
    const slot = tree.add(parent ? parent.slot : standing.place, words, 0, tokens);
    const index = parent ? parent.index + 1 : 0;
    const made = { hash, root, parent, index, slot, kept, ...wish, tokens: tree.records.tokens(slot) };
    const block: Block<P> = { ...made, stakes: 0, holders: 0, removed: false, tiers: 0, isFresh: true };
    bySlot[slot] = block;
    expiry.set(block, Number.POSITIVE_INFINITY, block.expiresAt);
    eviction.came(slot);
    want(block, wish);
    changed(block);
    eviction.freed(slot);
    return block;
  }

  function stand(root: Root): Standing {
    const key = root.hash.toString('hex');
    const known = roots.get(key);
    const standing = known ?? { root, place: tree.root(), count: 0 };
    standing.count++;
    if (known) return known;
    roots.set(key, standing);
    const owner = ownerOf(root);
    layouts.set(owner, (layouts.get(owner) ?? new Set()).add(root));
    return standing;
  }

  function remove(block: Block<P>, cause: KvCause): number {
    if (block.removed) return 0;
    const leaving = withFollowing(block);
    for (const each of leaving.toReversed()) takeOut(each, cause === 'evicted');
    if (block.parent) eviction.freed(block.parent.slot);
    for (const each of leaving) if (each.holders === 0) gone(each);
    for (const each of leaving) left(each, cause);
    return leaving.length;
  }

  /** A block and all that follow it, without recursion: chains are long. */
  function withFollowing(block: Block<P>): Block<P>[] {
    const found = [block];
    for (let i = 0; i < found.length; i++) for (const slot of tree.behind(found[i]?.slot ?? NONE)) found.push(at(slot));
    return found;
  }

  function takeOut(block: Block<P>, isEvicted: boolean): void {
    const { slot, root } = block;
    block.removed = true;
    block.tokens = block.tokens.slice();
    changed(block);
    expiry.set(block, block.expiresAt, Number.POSITIVE_INFINITY);
    eviction.leaves(slot, isEvicted);
    tree.remove(slot);
    bySlot[slot] = undefined;
    const key = root.hash.toString('hex');
    const standing = roots.get(key);
    if (!standing || --standing.count > 0) return;
    roots.delete(key);
    tree.dropRoot(standing.place);
    const own = layouts.get(ownerOf(standing.root));
    own?.delete(standing.root);
    if (own?.size === 0) layouts.delete(ownerOf(standing.root));
  }

  // ---- tiers

  function tierNamed(name: string): Tier {
    const known = tiers.get(name);
    if (known) return known;
    if (tiers.size === TIERS_MAX) throw new Error(`a tier more than ${TIERS_MAX}: ${name}`);
    const mark = 1 << tiers.size;
    const tier: Tier = {
      number: eviction.addTier((slot) => mayLeave(tier, slot)),
      mark,
      following: new Int32Array(64),
    };
    tiers.set(name, tier);
    return tier;
  }

  function mayLeave({ mark, following }: Tier, slot: number): boolean {
    const block = bySlot[slot];
    return block !== undefined && block.holders === 0 && (block.tiers & mark) !== 0 && !following[slot];
  }

  function changed(block: Block<P>): void {
    const names = block.removed ? [] : (options.tiersOf?.(block.kept) ?? []);
    const is = names.reduce((marks, name) => marks | tierNamed(name).mark, 0);
    const was = block.tiers;
    if (is === was) return;
    block.tiers = is;
    for (const tier of tiers.values()) {
      if ((is & tier.mark) === (was & tier.mark)) continue;
      count(tier, block, (is & tier.mark) === 0 ? -1 : 1);
    }
    if (!block.removed) eviction.freed(block.slot);
    if (block.parent && !block.parent.removed) eviction.freed(block.parent.slot);
  }

  /** For those before it. */
  function count(tier: Tier, { parent, slot }: Block<P>, more: 1 | -1): void {
    if (slot >= tier.following.length) tier.following = grown(tier.following, slot + 1);
    if (parent) (tier.following[parent.slot] as number) += more;
  }

  function* leaving(name?: string, turn?: Turn): Generator<Block<P>, void, void> {
    for (const slot of eviction.leaving(name === undefined ? 0 : tierNamed(name).number, turn)) yield at(slot);
  }

  function* wouldLeave(name: string, turn?: Turn): Generator<Block<P>, void, void> {
    const tier = tierNamed(name);
    const before: Block<P>[] = [];
    try {
      for (const slot of eviction.leaving(tier.number, turn)) {
        const block = at(slot);
        yield block;
        if (!block.parent) continue;
        before.push(block);
        count(tier, block, -1);
        eviction.freed(block.parent.slot);
      }
    } finally {
      for (const block of before) count(tier, block, 1);
    }
  }

  function* expired(): Generator<Block<P>, void, void> {
    const isDue = (one: Block<P>): boolean =>
      !one.removed && one.expiresAt <= now() && one.holders === 0 && tree.lastBehind(one.slot) === NONE;
    for (const block of expiry.due(now()))
      for (let one: Block<P> | undefined = block; one && isDue(one); one = one.parent) yield one;
  }

  function* all(): Generator<Block<P>, void, void> {
    for (const block of bySlot) if (block) yield block;
  }

  return {
    get size() {
      return tree.count;
    },
    get policy() {
      return eviction.inCharge;
    },
    report: eviction.report,
    follow() {
      if (course.strategy !== eviction.strategy) eviction.setStrategy(course.strategy);
    },
    changed,
    changeParty(block, change) {
      if (block.removed) change();
      else eviction.changeParty(block.slot, change);
    },
    dropParty: eviction.dropParty,
    want,
    touch,
    find,
    match,
    nameOf,
    following,
    layouts: (scope, model) => [...(layouts.get(ownerOf({ scope, model })) ?? [])],
    insert,
    remove,
    hold(held) {
      if (held.some(({ removed }) => removed)) throw new Error('a block was to be held that is not there any more');
      for (const block of held) block.holders++;
      return () => {
        for (const block of held) {
          if (--block.holders > 0) continue;
          if (block.removed) gone(block);
          else eviction.freed(block.slot);
        }
      };
    },
    leaving,
    wouldLeave,
    withFollowing,
    isLast: ({ slot }) => tree.lastBehind(slot) === NONE,
    expired,
    all,
  };
}

/** A block and all that it follows, the chain's first one at the end. */
export function withParents<P>(block: Block<P>): Block<P>[] {
  const chain: Block<P>[] = [];
  for (let one: Block<P> | undefined = block; one; one = one.parent) chain.push(one);
  return chain;
}
