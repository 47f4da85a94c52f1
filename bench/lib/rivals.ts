// Other people's codecs, as they stand in the tables.
import { both, type Contestant, rotated } from './coded.ts';
import { fp8, iq4_nl, kivi, nvfp4, q4_0, q8_0 } from './rivals-blocks.ts';
import { turboQuant } from './rivals-turboquant.ts';

/** TurboQuant's rotation is the one of our own codecs, so that both see the same vectors. */
export const RIVALS: readonly Contestant[] = [
  both('q8_0', q8_0),
  both('fp8 e4m3', fp8),
  kivi(4, 32),
  both('q4_0', q4_0),
  both('q4_0 + Hadamard', rotated(q4_0)),
  both('iq4_nl', iq4_nl),
  both('NVFP4', nvfp4),
  both('TurboQuant 4', turboQuant(4)),
  both('TurboQuant 3', turboQuant(3)),
  kivi(2, 32),
  kivi(2, 64),
  both('TurboQuant 2', turboQuant(2)),
];
