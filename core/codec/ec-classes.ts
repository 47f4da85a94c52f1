// The sixteen frequency tables of `ec`: a channel (or a vector) is coded as normal numbers of standard deviation
// 2^(-2.5 + class/2) steps, so that no container holds a table. A table has symbols up to six deviations and four steps;
// what lies beyond is stored by itself. Part of the format: a test holds their bits for ever.
import { EC_CLASS_COUNT } from '../../shaders/entropy-kernels.ts';
import { frequenciesOf, type RansTable, ransTable } from './rans.ts';

/** The symbol of a value that rounds to no step at all. */
export const SYMBOL_ZERO = 128;
export const STEPS_MAX = 127;
/** Of `gain`: as a fraction of 256 its product with a step of 8 bits and a count of 7 is exact in f32. */
export const GAIN_UNIT = 256;
/** Mean sizes are compared in integers, in units of 1/4096. */
export const SIZE_UNIT = 4096;
const SAMPLES = 32;

export interface EcClass {
  readonly table: RansTable;
  /** What a count of steps is multiplied by when it becomes a value, in 256ths: normal numbers lie nearer to zero. */
  readonly gain: number;
  /** A group whose mean number of steps, in 4096ths, is not below this is of this class or a higher one. */
  readonly from: number;
}

interface Normal {
  readonly table: RansTable;
  readonly gain: number;
  readonly meanSteps: number;
}

function normal(deviation: number): Normal {
  const reach = Math.min(STEPS_MAX, Math.ceil(6 * deviation) + 4);
  const counts = new Float64Array(256);
  let products = 0;
  let squares = 0;
  let sizes = 0;
  let all = 0;
  for (let steps = -reach; steps <= reach; steps++) {
    let weight = 0;
    for (let i = 0; i < SAMPLES; i++) {
      const x = steps + (i + 0.5) / SAMPLES - 0.5;
      const density = Math.exp(-(x * x) / (2 * deviation * deviation));
      weight += density;
      products += density * x * steps;
    }
    counts[steps + SYMBOL_ZERO] = Math.max(weight, 1e-9);
    squares += weight * steps * steps;
    sizes += weight * Math.abs(steps);
    all += weight;
  }
  const gain = Math.round((products / squares) * GAIN_UNIT);
  return { table: ransTable(frequenciesOf(counts)), gain, meanSteps: sizes / all };
}

export const EC_CLASSES: readonly EcClass[] = makeClasses();

function makeClasses(): EcClass[] {
  const normals = Array.from({ length: EC_CLASS_COUNT }, (_, i) => normal(2 ** (-2.5 + i / 2)));
  return normals.map(({ table, gain, meanSteps }, i) => {
    const below = normals[i - 1]?.meanSteps ?? 0;
    return { table, gain, from: Math.round(SIZE_UNIT * Math.sqrt(below * meanSteps)) };
  });
}

/** Of a group of values: the last class that begins at or below their mean number of steps. */
export function classOf(sumOfSteps: number, values: number): number {
  let found = 0;
  for (let i = 1; i < EC_CLASS_COUNT; i++) if (sumOfSteps * SIZE_UNIT >= (EC_CLASSES[i]?.from ?? 0) * values) found = i;
  return found;
}

/** What the kernels read: for each class 256 words to encode by, then for each its `from`, its `gain`, then 2048 to decode by. */
export function classWords(): { readonly encode: Uint32Array<ArrayBuffer>; readonly decode: Uint32Array<ArrayBuffer> } {
  const encode = EC_CLASSES.flatMap(({ table }) => [...table.encode]);
  const decode = EC_CLASSES.flatMap(({ table }) => [...table.decode]);
  const froms = EC_CLASSES.map(({ from }) => from);
  const gains = EC_CLASSES.map(({ gain }) => gain);
  return { encode: Uint32Array.from([...froms, ...encode]), decode: Uint32Array.from([...gains, ...decode]) };
}
