// Which KV is held: blocks of tokens, chained by hash from the first one on, and who leaves first when room is short.
// A chain begins at a root: whose it is (a salt, or the tenant), which model, which layout, how K is turned. Blocks of two roots never meet.
// A block is found by its hash and then compared token by token: a collision is a miss, never another's answer.
// Only a block that none follows may leave, unless somebody holds it; `leaving` offers those of the lowest priority first, and
// of one priority the least recently used. Who expires is no longer matched, and there until it is removed, or used anew.
// Bookkeeping only: nothing here waits, and what is kept of a block is not known here (`P`).
// Invariants: each block but a chain's first has its parent held, which lives as long and is wanted as much, or more; `size`
// counts what `find` can find.
import { createHash } from 'node:crypto';
import type { KvShape, Rope } from '../contract/kv.ts';
import type { KvCause } from '../contract/kv-calls.ts';

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
  readonly tokens: Int32Array;
  readonly kept: P;
  /** Those that follow it, by hash. */
  readonly next: Map<string, Block<P>>;
  /** Who reads or writes it now: it must not leave. */
  holders: number;
  /** No longer found; what is kept of it goes with its last holder. */
  removed: boolean;
  /** 0 to 100, the highest that was asked for. */
  priority: number;
  /** The latest that was asked for; infinite where it never expires. */
  expiresAt: number;
  /** Who has stored it, a bit each (kv-stakes.ts). */
  stakes: number;
}

/** How much, and until when, a block is wanted. */
export interface Wish {
  readonly priority: number;
  readonly expiresAt: number;
}

const USUAL: Wish = { priority: 50, expiresAt: Number.POSITIVE_INFINITY };

export interface BlocksOptions<P> {
  readonly blockTokens: number;
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
  /** By what rule blocks leave. */
  readonly policy: string;
  /** Just used: leave last. Of a chain from its first block on; wanted as much and as long as before, or as is wished here. */
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
  hold(blocks: readonly Block<P>[]): () => void;
  /**
   * Blocks that may leave, the first one first; whoever takes one removes it before asking for the next. Or those that may
   * leave a tier: `isIn` says who is in it now, and only those are looked at, as if there were no others.
   */
  leaving(isIn?: (kept: P) => boolean): Generator<Block<P>, void, void>;
  /** Those that have expired and that nobody holds. */
  expired(): Block<P>[];
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

const PRIORITY_MAX = 100;

export function createBlocks<P>({ blockTokens, now, gone, left }: BlocksOptions<P>): Blocks<P> {
  const blocks = new Map<string, Block<P>>();
  /** By priority; least recently used first, and of a chain the later blocks first. */
  const lines = Array.from({ length: PRIORITY_MAX + 1 }, () => new Map<string, Block<P>>());
  const roots = new Map<string, { readonly root: Root; count: number }>();
  /** The first blocks of each root. */
  const firsts = new Map<string, Map<string, Block<P>>>();
  /** Those that expire at all. */
  const expiring = new Set<Block<P>>();

  const nameOf = (root: Root, parent: Block<P> | undefined, tokens: Int32Array): string =>
    hashOf(parent ? Buffer.from(parent.hash, 'hex') : root.hash, tokens);

  function find(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined {
    const found = blocks.get(nameOf(root, parent, tokens));
    return found && sameTokens(found.tokens, tokens) && found.parent === parent ? found : undefined;
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
    for (const block of following(root, parent))
      if (block.expiresAt > now() && sameTokens(block.tokens.subarray(0, tokens.length), tokens)) return block;
    return undefined;
  }

  const following = (root: Root, parent: Block<P> | undefined): Iterable<Block<P>> =>
    (parent ? parent.next : firsts.get(root.hash.toString('hex')))?.values() ?? [];

  const lineOf = ({ priority }: Block<P>): Map<string, Block<P>> => {
    const line = lines[priority];
    if (!line) throw new Error(`a block has the priority ${priority}`);
    return line;
  };

  function touch(chain: readonly Block<P>[], wish?: Wish): void {
    for (const block of chain.toReversed()) {
      lineOf(block).delete(block.hash);
      if (wish) raise(block, wish);
      lineOf(block).set(block.hash, block);
    }
  }

  function raise(block: Block<P>, { priority, expiresAt }: Wish): void {
    block.priority = Math.max(block.priority, priority);
    block.expiresAt = Math.max(block.expiresAt, expiresAt);
    if (block.expiresAt === Number.POSITIVE_INFINITY) expiring.delete(block);
    else expiring.add(block);
  }

  function insert(root: Root, parent: Block<P> | undefined, tokens: Int32Array, kept: P, wish = USUAL): Block<P> {
    if (tokens.length !== blockTokens) throw new Error(`a block of ${tokens.length} tokens was to be inserted`);
    if (parent?.removed) throw new Error('a block was to follow one that is no longer held');
    const hash = nameOf(root, parent, tokens);
    const index = parent ? parent.index + 1 : 0;
    const made = { hash, root, parent, index, tokens: tokens.slice(), kept };
    const block: Block<P> = { ...made, ...wish, stakes: 0, next: new Map(), holders: 0, removed: false };
    const other = blocks.get(hash);
    if (other) remove(other, 'lost'); // a collision of hashes, or our bug: the latest is the one that is found
    blocks.set(hash, block);
    touch([block], wish);
    followingOf(block).set(hash, block);
    const key = root.hash.toString('hex');
    const counted = roots.get(key) ?? { root, count: 0 };
    counted.count++;
    roots.set(key, counted);
    return block;
  }

  function followingOf({ parent, root }: Block<P>): Map<string, Block<P>> {
    if (parent) return parent.next;
    const key = root.hash.toString('hex');
    const known = firsts.get(key) ?? new Map<string, Block<P>>();
    firsts.set(key, known);
    return known;
  }

  function remove(block: Block<P>, cause: KvCause): number {
    const leaving = subtree(block).filter(({ removed }) => !removed);
    const following = followingOf(block);
    following.delete(block.hash);
    if (!block.parent && following.size === 0) firsts.delete(block.root.hash.toString('hex'));
    for (const each of leaving) {
      each.removed = true;
      if (blocks.get(each.hash) === each) blocks.delete(each.hash);
      lineOf(each).delete(each.hash);
      expiring.delete(each);
      forgetRoot(each.root);
      if (each.holders === 0) gone(each);
    }
    for (const each of leaving) left(each, cause);
    return leaving.length;
  }

  function forgetRoot(root: Root): void {
    const key = root.hash.toString('hex');
    const counted = roots.get(key);
    if (counted && --counted.count === 0) roots.delete(key);
  }

  return {
    policy: 'lru',
    get size() {
      return blocks.size;
    },
    touch,
    find,
    match,
    nameOf,
    following,
    layouts: (scope, model) =>
      [...roots.values()].flatMap(({ root }) => (root.scope === scope && root.model === model ? [root] : [])),
    insert,
    remove,
    hold(held) {
      if (held.some(({ removed }) => removed)) throw new Error('a block was to be held that is not there any more');
      for (const block of held) block.holders++;
      return () => {
        for (const block of held) if (--block.holders === 0 && block.removed) gone(block);
      };
    },
    *leaving(isIn = () => true) {
      const isLast = ({ next }: Block<P>) => !next.values().some(({ kept }) => isIn(kept));
      for (const line of lines)
        for (const block of line.values()) if (block.holders === 0 && isIn(block.kept) && isLast(block)) yield block;
    },
    expired: () => [...expiring].filter(({ expiresAt, holders }) => expiresAt <= now() && holders === 0),
    all: () => blocks.values(),
  };
}

/** A block and all that follow it, without recursion: chains are long. */
function subtree<P>(block: Block<P>): Block<P>[] {
  const found = [block];
  for (let i = 0; i < found.length; i++) for (const next of found[i]?.next.values() ?? []) found.push(next);
  return found;
}

/** 128 bits of sha-256 over the chain so far and these tokens. */
function hashOf(before: Buffer, tokens: Int32Array): string {
  const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
  return createHash('sha256').update(before).update(bytes).digest('hex').slice(0, 32);
}

function sameTokens(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
