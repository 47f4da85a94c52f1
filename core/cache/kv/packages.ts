// The cold shelf: packages of blocks in memory, compressed, within a budget of its own. A block has one beside its pages, so
// that it can leave its adapter at once, or instead of them.
// Invariant: packages and the room that is reserved for some yet to be made never take more than the budget. Who leaves for
// others is the index's say: a package whose block has pages goes alone, else the block is forgotten. Before all others go those
// of blocks that came back to an adapter: what was lost with them can be made again.
import type { Means } from '../../codec/means.ts';
import type { Packed, Packing } from '../../codec/packing-desk.ts';
import type { Form, Part } from '../../codec/pages.ts';
import type { KvBlock } from './held.ts';

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
  /** Undefined where even with all gone that may leave there is not so much. */
  reserve(bytes: number): Reserved | undefined;
  /** It has pages again; or has no longer. */
  spare(block: KvBlock, isSpare: boolean): void;
  /** The block's package, if it has one. */
  drop(block: KvBlock): void;
}

export interface ShelfOptions {
  readonly bytesMax: number;
  /** Blocks whose packages may go, the first one first. */
  readonly leaving: () => Iterable<KvBlock>;
  /** Of a block that has no pages. */
  readonly forget: (block: KvBlock) => void;
  /** It has a package, or has none any more. */
  readonly changed: (block: KvBlock) => void;
}

export function createShelf({ bytesMax, leaving, forget, changed }: ShelfOptions): Shelf {
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
    bytes -= kept.cold.bytes;
    packages--;
    kept.cold = undefined;
    changed(block);
  }

  function* whoLeaves(): Generator<KvBlock, void, void> {
    yield* spares;
    yield* leaving();
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
    reserve(wanted) {
      if (wanted > bytesMax) return undefined;
      for (const block of whoLeaves()) {
        if (bytes + wanted <= bytesMax) break;
        evictions++;
        if (block.kept.hot) drop(block);
        else forget(block);
      }
      if (bytes + wanted > bytesMax) return undefined;
      bytes += wanted;
      bytesMost = Math.max(bytesMost, bytes);
      let left = wanted;
      return {
        put(block, made) {
          if (made.bytes > left) throw new Error(`a package of ${made.bytes} bytes has ${left} reserved`);
          drop(block);
          block.kept.cold = made;
          changed(block);
          bytes -= left - made.bytes;
          left = 0;
          packages++;
        },
        release() {
          bytes -= left;
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
