// Which kernels `ec` takes, in which order and with which parameters; whoever dispatches brings the ranges, by the names that
// the catalogue has for them: `classes` are the words of ec-classes.ts (the half to encode, or to decode, by).
//
//   encode   the kernel `reduce`, sumOfSquares by 64 vectors, gives what stepForError() needs of each block; stepWords() goes
//            up as `steps`; then encodeSteps in one run, into a container of wordsMax words; then ecHead() at its beginning
//            and, behind its last stream (streamsEnd in lossless-steps.ts), the checksum. A block whose sum of squares is not
//            finite has no step here; where nothing is gained over f32, the container is the plain one
//   decode   check the checksum; decodeStep; no word of `faults` may be other than 0
import { EC_AXIS, EC_BLOCK, EC_SLOT } from '../../shaders/entropy-kernels.ts';
import type { BlockShape } from './block-codec.ts';
import { EC_HEADER_WORDS, type EcAxis, ecStreams, stepFactors } from './ec.ts';
import { gatherSteps, type Step } from './lossless-steps.ts';

/** What the kernels take of the blocks' steps, as `stepNear` or `stepForError` gave them. */
export function stepWords(steps: readonly number[], { vectors }: BlockShape): Float32Array<ArrayBuffer> {
  const words = new Float32Array(steps.length * 4);
  for (const [block, step] of steps.entries())
    words.set(stepFactors(step, Math.min(EC_BLOCK, vectors - block * EC_BLOCK)), block * 4);
  return words;
}

export function encodeSteps(axis: EcAxis, { vectors, dim }: BlockShape, wordsMax: number) {
  const constants = { AXIS: EC_AXIS[axis] };
  const parameters = { vectors, dim };
  const scale: Step<'ec-scale'> = { kernel: 'ec-scale', constants, parameters };
  const encode: Step<'ec-encode'> = { kernel: 'ec-encode', constants, parameters };
  const streams = { blocks: Math.ceil(vectors / EC_BLOCK), perBlock: ecStreams(dim), directory: EC_HEADER_WORDS };
  return [scale, encode, ...gatherSteps(streams, EC_SLOT, wordsMax)] as const;
}

/** Of a container that is not plain, whose streams end at word `end`. */
export function decodeStep(axis: EcAxis, { vectors, dim }: BlockShape, end: number): Step<'ec-decode'> {
  return { kernel: 'ec-decode', constants: { AXIS: EC_AXIS[axis] }, parameters: { vectors, dim, end } };
}
