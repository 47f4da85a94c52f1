// Forgetting what a tenant has stored: all of it, or that of a model, under a salt, or that begins with some tokens. Pinned or
// not. What other tenants have stored too, under a salt, stays, and is no longer this tenant's. Whoever reads a block goes on.
import { BLOCK_TOKENS } from '../../codec/pages.ts';
import type { KvClearAnswer } from '../../contract/kv-calls.ts';
import { type Root, scopeOf } from './blocks.ts';
import type { KvBook } from './book.ts';
import type { KvBlock, KvBlocks } from './held.ts';

export interface KvClearOptions {
  readonly tenant: string;
  readonly model?: string | undefined;
  readonly salt?: string | undefined;
  readonly prefix?: Int32Array | undefined;
}

export interface ClearParts {
  readonly blocks: KvBlocks;
  readonly book: KvBook;
  readonly isPinned: (block: KvBlock) => boolean;
  readonly bytesOf: (block: KvBlock) => number;
  readonly passOn: (block: KvBlock, tenant: string) => void;
  /** Others want it still. */
  readonly shared?: (block: KvBlock) => void;
}

/** A step for each block, those that follow others first; between steps others may do what they like. */
export function* clear(asked: KvClearOptions, parts: ClearParts): Generator<undefined, KvClearAnswer, void> {
  const { blocks, book, isPinned, bytesOf, passOn, shared } = parts;
  const { tenant, model, salt, prefix } = asked;
  const isAll = model === undefined && salt === undefined && prefix === undefined;
  const own = yield* ownBlocks(asked, blocks, book.stakes);
  const done = { blocks: 0, bytes: 0, pinned: 0, shared: 0 };
  // told before they go: whatever is told after it has been stored since
  if (isAll && own.length > 0) book.events.tell(tenant, { type: 'AllBlocksCleared' });
  for (const block of own.toReversed()) {
    if (!book.stakes.has(block, tenant)) continue; // it has left meanwhile
    book.forgotten(block, tenant, !isAll);
    if (book.stakes.leave(block, tenant)) {
      done.shared++;
      const [next] = book.stakes.tenantsOf(block);
      if (next !== undefined && block.kept.tenant === tenant) passOn(block, next);
      shared?.(block);
    } else {
      done.blocks++;
      done.bytes += bytesOf(block);
      done.pinned += Number(isPinned(block));
      blocks.remove(block, 'cleared');
    }
    yield;
  }
  return done;
}

/** Those before others first. */
function* ownBlocks(
  asked: KvClearOptions,
  blocks: KvBlocks,
  { rootsOf, has }: KvBook['stakes'],
): Generator<undefined, KvBlock[], void> {
  const { tenant, model, salt, prefix = new Int32Array(0) } = asked;
  const found: KvBlock[] = [];
  const add = (some: Iterable<KvBlock>): void => {
    for (const block of some) if (has(block, tenant)) found.push(block);
  };
  for (const root of rootsOf(tenant)) {
    if (model !== undefined && root.model !== model) continue;
    if (salt !== undefined && root.scope !== scopeOf(tenant, salt)) continue;
    add(firstWith(root, prefix, blocks));
  }
  for (const block of found) {
    add(blocks.following(block.root, block)); // grows under way
    yield;
  }
  return found;
}

/** The blocks in which the prefix ends; all first ones where it is empty. */
function firstWith(root: Root, prefix: Int32Array, blocks: KvBlocks): KvBlock[] {
  let before: KvBlock | undefined;
  let at = 0;
  for (; at + BLOCK_TOKENS < prefix.length; at += BLOCK_TOKENS) {
    before = blocks.find(root, before, prefix.subarray(at, at + BLOCK_TOKENS));
    if (!before) return [];
  }
  const rest = prefix.subarray(at);
  return [...blocks.following(root, before)].filter(({ tokens }) => rest.every((token, i) => tokens[i] === token));
}
