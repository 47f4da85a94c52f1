// The cold shelf: packages of blocks in memory, compressed, within a budget of its own. A block has one beside its pages, so
// that it can leave its adapter at once, or instead of them.
// Invariant: packages and the room that is reserved for some yet to be made never take more than the budget. Who leaves for
// others is the index's say, and whose turn it is that of households.ts: a package whose block has pages or a record on disk goes alone,
// else the block is forgotten. Before all others go those
// of blocks that came back to an adapter: what was lost with them can be made again.
import type { Means } from '../../codec/means.ts';
import type { Packed, Packing } from '../../codec/packing-desk.ts';
import type { Form, Part } from '../../codec/pages.ts';
import type { KvBlock } from './held.ts';
import type { Asker, Households, Turns } from './households.ts';

/** How each part is to be packed. */
export type Packings = Readonly<Record<Part, Packing>>;

export interface Package {
  readonly form: Form;
  readonly wanted: Form;
  readonly packing: Packings;
  readonly means: Means | undefined;
  /** Of each layer. */
  readonly layers: readonly Readonly<Record<Part, Packed>>[];
  /** What the pages' are to be again; undefined where something is lost on the way. */
  readonly seals: Uint32Array | undefined;
  /** Of all its parts. */
  readonly bytes: number;
}

/** Room that nobody else gets; either of its two, once. */
export interface Reserved {
  /** Smaller than was asked for, or as large. */
  put(block: KvBlock, made: Package): void;
  release(): void;
}

export interface Shelf {
  /** Of packages, and reserved. */
  readonly bytes: number;
  /** The most that it has ever been. */
  readonly bytesMost: number;
  readonly bytesMax: number;
  readonly packages: number;
  /** Packages that left for others. */
  readonly evictions: number;
  /** So many have to go for what is asked for; none where there is room. */
  bytesOver(asker: Asker): number;
  /** For a tenant's block; undefined where even with all gone that may leave there is not so much. */
  reserve(asker: Asker): Reserved | undefined;
  /** It has pages again; or has no longer. */
  spare(block: KvBlock, isSpare: boolean): void;
  /** The block's package, if it has one. */
  drop(block: KvBlock): void;
}

export interface ShelfOptions {
  readonly bytesMax: number;
  /** Of that, for one tenant. */
  readonly quota?: number;
  readonly households: Pick<Households, 'account' | 'bytesOf' | 'turns'>;
  /** Blocks whose packages may go, the first one of whose turn it is first. */
  readonly leaving: (turns: Turns) => Iterable<KvBlock>;
  /** Of a block that is nowhere else. */
  readonly forget: (block: KvBlock) => void;
  /** It is on disk only. */
  readonly sunk?: (block: KvBlock) => void;
  /** It has a package, or has none any more. */
  readonly changed: (block: KvBlock) => void;
}

export function createShelf(options: ShelfOptions): Shelf {
  const { bytesMax, quota = 1, households, leaving, forget, changed, sunk } = options;
  let bytes = 0;
  let bytesMost = 0;
  let packages = 0;
  let evictions = 0;
  /** Those that came back first are first. */
  const spares = new Set<KvBlock>();

  function drop(block: KvBlock): void {
    const { kept } = block;
    spares.delete(block);
    if (!kept.cold) return;
    const { bytes } = kept.cold;
    packages--;
    kept.cold = undefined;
    changed(block);
    take(kept.tenant, -bytes);
  }

  function take(tenant: string, more: number): void {
    bytes += more;
    bytesMost = Math.max(bytesMost, bytes);
    households.account(tenant, 'packages', more);
  }

  const isWithinQuota = ({ tenant, bytes }: Asker): boolean =>
    households.bytesOf(tenant, 'packages') + bytes <= quota * bytesMax;

  function* whoLeaves(asker: Asker): Generator<KvBlock, void, void> {
    for (const block of spares) if (block.kept.tenant === asker.tenant || isWithinQuota(asker)) yield block;
    yield* leaving(households.turns('packages', bytesMax, asker));
  }

  return {
    get bytes() {
      return bytes;
    },
    get bytesMost() {
      return bytesMost;
    },
    bytesMax,
    get packages() {
      return packages;
    },
    get evictions() {
      return evictions;
    },
    bytesOver: ({ tenant, bytes: wanted }) =>
      Math.max(0, bytes + wanted - bytesMax, households.bytesOf(tenant, 'packages') + wanted - quota * bytesMax),
    reserve(asker) {
      const { tenant, bytes: wanted } = asker;
      const fits = () => bytes + wanted <= bytesMax && isWithinQuota(asker);
      if (wanted > quota * bytesMax) return undefined;
      for (const block of whoLeaves(asker)) {
        if (fits()) break;
        evictions++;
        const { hot, disk } = block.kept;
        if (!hot && !disk) forget(block);
        else drop(block);
        if (!hot && disk) sunk?.(block);
      }
      if (!fits()) return undefined;
      take(tenant, wanted);
      let left = wanted;
      return {
        put(block, made) {
          if (made.bytes > left) throw new Error(`a package of ${made.bytes} bytes has ${left} reserved`);
          drop(block);
          take(tenant, -left);
          take(block.kept.tenant, made.bytes);
          left = 0;
          block.kept.cold = made;
          packages++;
          changed(block);
        },
        release() {
          take(tenant, -left);
          left = 0;
        },
      };
    },
    spare(block, isSpare) {
      if (isSpare) spares.add(block);
      else spares.delete(block);
    },
    drop,
  };
}
