// Which KV is held: blocks of tokens, chained by hash from the first one on, and who leaves first when room is short.
// A chain begins at a root: whose it is (a salt, or the tenant), which model, which layout, how K is turned. Blocks of two roots never meet.
// A block is found by its hash and then compared token by token: a collision is a miss, never another's answer.
// Only a block that none follows may leave, unless somebody holds it; `leaving` offers the least recently used first.
// Bookkeeping only: nothing here waits, and what a block's pages are is not known here (`P`).
// Invariants: each block but a chain's first has its parent held; `size` counts what `match` can find.
import { createHash } from 'node:crypto';
import type { KvShape, Rope } from '../contract/kv.ts';

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
  pages: P;
  /** Those that follow it, by hash. */
  readonly next: Map<string, Block<P>>;
  /** Who reads or writes it now: it must not leave. */
  holders: number;
  /** No longer found; its pages go with its last holder. */
  removed: boolean;
}

export interface Match<P> {
  /** The blocks that hold the tokens, in order. */
  readonly blocks: readonly Block<P>[];
  /** Tokens matched: all of the blocks', or fewer where only the beginning of the last is asked for. */
  readonly tokens: number;
}

export interface Blocks<P> {
  readonly size: number;
  /** Just used: leave last. */
  touch(chain: readonly Block<P>[]): void;
  /** The block after `parent` with just these tokens. */
  find(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined;
  /** The longest held beginning of a sequence; of its last tokens, a held block's beginning will do. Just used. */
  match(root: Root, tokens: Int32Array): Match<P>;
  /** The layouts that are held for a scope and model. */
  layouts(scope: string, model: string): Root[];
  /** After its parent; `find` has said that it is not there. */
  insert(root: Root, parent: Block<P> | undefined, tokens: Int32Array, pages: P): Block<P>;
  /** Out of the index, with all that follow it, so many; `gone` is told of each as soon as nobody holds it. */
  remove(block: Block<P>): number;
  hold(blocks: readonly Block<P>[]): () => void;
  /** Blocks that may leave, least recently used first; whoever takes one removes it before asking for the next. */
  leaving(): Generator<Block<P>, void, void>;
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

export function createBlocks<P>(blockTokens: number, gone: (block: Block<P>) => void): Blocks<P> {
  /** Least recently used first, and of a chain the later blocks first. */
  const blocks = new Map<string, Block<P>>();
  const roots = new Map<string, { readonly root: Root; count: number }>();

  function find(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined {
    const found = blocks.get(hashOf(parent ? Buffer.from(parent.hash, 'hex') : root.hash, tokens));
    return found && sameTokens(found.tokens, tokens) && found.parent === parent ? found : undefined;
  }

  function match(root: Root, tokens: Int32Array): Match<P> {
    const found: Block<P>[] = [];
    let at = 0;
    while (at + blockTokens <= tokens.length) {
      const block = find(root, found.at(-1), tokens.subarray(at, at + blockTokens));
      if (!block) break;
      found.push(block);
      at += blockTokens;
    }
    const rest = tokens.subarray(at);
    const partial = rest.length > 0 && rest.length < blockTokens ? beginsWith(root, found.at(-1), rest) : undefined;
    if (partial) found.push(partial);
    touch(found);
    return { blocks: found, tokens: partial ? tokens.length : at };
  }

  /** A block after `parent` whose first tokens are these. */
  function beginsWith(root: Root, parent: Block<P> | undefined, tokens: Int32Array): Block<P> | undefined {
    const following = parent ? parent.next : firsts.get(root.hash.toString('hex'));
    for (const block of following?.values() ?? [])
      if (sameTokens(block.tokens.subarray(0, tokens.length), tokens)) return block;
    return undefined;
  }
  /** The first blocks of each root. */
  const firsts = new Map<string, Map<string, Block<P>>>();

  function touch(chain: readonly Block<P>[]): void {
    for (const block of chain.toReversed()) {
      blocks.delete(block.hash);
      blocks.set(block.hash, block);
    }
  }

  function insert(root: Root, parent: Block<P> | undefined, tokens: Int32Array, pages: P): Block<P> {
    if (tokens.length !== blockTokens) throw new Error(`a block of ${tokens.length} tokens was to be inserted`);
    if (parent?.removed) throw new Error('a block was to follow one that is no longer held');
    const hash = hashOf(parent ? Buffer.from(parent.hash, 'hex') : root.hash, tokens);
    const index = parent ? parent.index + 1 : 0;
    const made = { hash, root, parent, index, tokens: tokens.slice(), pages };
    const block: Block<P> = { ...made, next: new Map(), holders: 0, removed: false };
    const other = blocks.get(hash);
    if (other) remove(other); // a collision of hashes, or our bug: the latest is the one that is found
    blocks.set(hash, block);
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

  function remove(block: Block<P>): number {
    const leaving = subtree(block).filter(({ removed }) => !removed);
    for (const each of leaving) {
      each.removed = true;
      if (blocks.get(each.hash) === each) blocks.delete(each.hash);
      forgetRoot(each.root);
      if (each.holders === 0) gone(each);
    }
    const following = followingOf(block);
    following.delete(block.hash);
    if (!block.parent && following.size === 0) firsts.delete(block.root.hash.toString('hex'));
    return leaving.length;
  }

  function forgetRoot(root: Root): void {
    const key = root.hash.toString('hex');
    const counted = roots.get(key);
    if (counted && --counted.count === 0) roots.delete(key);
  }

  return {
    get size() {
      return blocks.size;
    },
    touch,
    find,
    match,
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
    *leaving() {
      for (const block of blocks.values()) if (block.next.size === 0 && block.holders === 0) yield block;
    },
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
