// Blocks as a start finds them on disk: their tree again, by the lines alone. A record's bytes are looked at when it is read.
// A block is there again where all that it follows is, its name is that of its tokens, its record lies within its file, and it has
// not expired; of several records of one, the last. What else there is, is wiped. Pins are not kept; uses begin anew, and who was
// written last is the last to have been used.
import type { Block, Root } from '../blocks.ts';
import type { Kept, KvBlocks } from '../held.ts';
import type { FoundSegment } from './files.ts';
import { type BlockLine, tokensOf } from './format.ts';
import type { Segment, Segments } from './segments.ts';

export interface RestoreOptions {
  /** Empty afterwards. */
  readonly found: FoundSegment[];
  readonly segments: Segments;
  readonly blocks: KvBlocks;
  /** The tenant has stored it. */
  readonly stored: (block: Block<Kept>, tenant: string) => void;
  readonly now: () => number;
}

interface Entry {
  readonly line: BlockLine;
  readonly root: Root | undefined;
  readonly segment: Segment;
}

/** How many blocks are there again. */
export function restore({ found, segments, blocks, stored, now }: RestoreOptions): number {
  const entries = new Map<string, Entry>();
  const roots = new Map<string, Root>();
  const restored = new Map<string, Block<Kept>>();
  const tried = new Set<string>();

  for (const segment of segments.segments) {
    const own = found.find(({ number }) => number === segment.number);
    if (!own) continue;
    segment.isStale = own.isDamaged;
    for (const line of own.blocks) {
      const root = own.roots.get(line.root);
      const key = root?.hash.toString('hex');
      if (root && key && !roots.has(key)) roots.set(key, root);
      lose(entries.get(line.block));
      entries.delete(line.block); // the last one counts, and has the last place
      entries.set(line.block, { line, root: key === undefined ? undefined : roots.get(key), segment });
    }
    if (own.blocks.length === 0) segment.isStale = true;
  }
  for (const entry of entries.values()) for (const each of chainOf(entry)) insert(each);
  found.length = 0;
  segments.tidySoon();
  return restored.size;

  /** It and what it follows, as far as that is not there yet, the first one first. */
  function chainOf(entry: Entry): Entry[] {
    const chain: Entry[] = [];
    for (let one: Entry | undefined = entry; one && !tried.has(one.line.block); ) {
      chain.push(one);
      one = one.line.parent === null || chain.length > entries.size ? undefined : entries.get(one.line.parent);
    }
    return chain.reverse();
  }

  function insert({ line, root, segment }: Entry): void {
    tried.add(line.block);
    const { block: hash, at, bytes, sum, form, grades } = line;
    const parent = line.parent === null ? undefined : restored.get(line.parent);
    const tokens = tokensOf(line.tokens);
    const expiresAt = Math.min(
      line.expiresAt ?? Number.POSITIVE_INFINITY,
      parent?.expiresAt ?? Number.POSITIVE_INFINITY,
    );
    const isSound =
      root &&
      tokens &&
      expiresAt > now() &&
      at + bytes <= segment.end.data &&
      (line.parent === null || parent?.root === root) &&
      blocks.nameOf(root, parent, tokens) === hash;
    if (!isSound) {
      lose({ line, root, segment });
      return;
    }
    const kept: Kept = {
      ...{ hot: undefined, cold: undefined, disk: undefined, tenant: line.tenant },
      grades: { k: grades.k ?? undefined, v: grades.v ?? undefined },
    };
    const wish = { priority: Math.min(line.priority, parent?.priority ?? line.priority), expiresAt };
    const block = segments.having(line.tenant, bytes, () => {
      const made = blocks.insert(root, parent, tokens, kept, wish);
      segments.setPlace(made, { segment, at, bytes, sum, form, used: false });
      return made;
    });
    for (const tenant of line.tenants) stored(block, tenant);
    restored.set(hash, block);
  }

  function lose(entry: Entry | undefined): void {
    if (entry) entry.segment.lost.push({ at: entry.line.at, bytes: entry.line.bytes });
  }
}
