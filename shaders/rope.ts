// The rotary embedding on the processor: what it is, and the table that the kernel `rope` turns vectors by. Pair i of a
// token's channels is turned by position / scale * theta^(-2 i / dims). Angles are f64, so that those of a million tokens
// are as good as the first; a vector comes out within 4e-7 of each pair's size.
import { PAGE_TOKENS } from './attention-kernels.ts';

/** Which channels are a pair: i and i + dims / 2, or 2 i and 2 i + 1. The constant PAIRS of the kernel. */
export const PAIRS = { halves: 0, neighbours: 1 } as const;

export interface Rotary {
  readonly theta: number;
  /** Positions are divided by it. */
  readonly scale: number;
  readonly pairs: keyof typeof PAIRS;
  /** The first so many channels of a vector are turned; a multiple of 8. */
  readonly dims: number;
}

/** Tokens of a block. */
const BLOCK = PAGE_TOKENS;

export const angleOf = ({ theta, scale, dims }: Rotary, position: number, pair: number): number =>
  (position / scale) * theta ** ((-2 * pair) / dims);

/** Cosines and sines of each token within a block, then those of where blocks begin. */
export function angleTable(rotary: Rotary, positions: readonly number[]): Float32Array<ArrayBuffer> {
  const half = rotary.dims / 2;
  const rows = [...Array.from({ length: BLOCK }, (_, token) => token), ...positions];
  const table = new Float32Array(rows.length * rotary.dims);
  for (const [row, position] of rows.entries())
    for (let pair = 0; pair < half; pair++) {
      const angle = angleOf(rotary, position, pair);
      table[row * rotary.dims + pair] = Math.cos(angle);
      table[row * rotary.dims + half + pair] = Math.sin(angle);
    }
  return table;
}
