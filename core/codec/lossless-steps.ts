// Which kernels `lossless` takes, in which order and with which parameters; whoever dispatches brings the ranges, by the names
// that the catalogue has for them. The table is made here, of the adapter's counts; so are the head and the checksum.
//
//   encode   countStep, and frequenciesOf() of its parts added up; then encodeSteps in one run, into a container of wordsMax
//            words; then losslessHead() at its beginning and, behind its last stream (streamsEnd), the checksum.
//            Where the streams do not fit, or nothing is gained: encodeLossless(content, 'plain')
//   decode   check the checksum; decodeStep; no word of `faults` may be other than 0
import { LOSSLESS_FORMAT, LOSSLESS_LANES, LOSSLESS_SLOT } from '../../shaders/entropy-kernels.ts';
import type { Dispatch } from '../gpu/kernel-choice.ts';
import { type LosslessCoded, losslessLayout } from './lossless.ts';
import { directoryWords } from './rans-streams.ts';

/** A dispatch but for its ranges. */
export type Step<N extends Dispatch['kernel']> = Omit<Dispatch<N>, 'bindings'>;

/** Counters are cheap, and so is what each brings back: 1 KiB. */
const COUNT_BYTES = 1 << 15;
const COUNT_PARTS_MAX = 64;

export function countStep(kind: LosslessCoded, bytes: number): Step<'lossless-count'> {
  const parts = Math.min(COUNT_PARTS_MAX, Math.max(1, Math.ceil(bytes / COUNT_BYTES)));
  return { kernel: 'lossless-count', constants: { FORMAT: LOSSLESS_FORMAT[kind] }, parameters: { bytes, parts } };
}

export function encodeSteps(kind: LosslessCoded, bytes: number, frequencies: Uint16Array, wordsMax: number) {
  const { rest, directory, blocks } = losslessLayout(kind, bytes, frequencies);
  const constants = { FORMAT: LOSSLESS_FORMAT[kind] };
  const streams = { blocks, perBlock: LOSSLESS_LANES, directory };
  const encode: Step<'lossless-encode'> = { kernel: 'lossless-encode', constants, parameters: { bytes } };
  const apart: Step<'lossless-rest'> = { kernel: 'lossless-rest', constants, parameters: { bytes, rest, directory } };
  return [encode, apart, ...gatherSteps(streams, LOSSLESS_SLOT, wordsMax)] as const;
}

/** From slots to a container: of either codec. */
export function gatherSteps(
  streams: { readonly blocks: number; readonly perBlock: number; readonly directory: number },
  slot: number,
  wordsMax: number,
) {
  const directory: Step<'streams-directory'> = { kernel: 'streams-directory', parameters: streams };
  const parameters = { ...streams, slot, end: wordsMax };
  const gather: Step<'streams-gather'> = { kernel: 'streams-gather', parameters };
  return [directory, gather] as const;
}

/** The word after the last stream, from a directory that an adapter made. */
export function streamsEnd(words: Uint32Array, directory: number, perBlock: number, blocks: number): number {
  const entry = directoryWords(perBlock);
  const last = directory + (blocks - 1) * entry;
  let end = directory + blocks * entry + (blocks > 0 ? (words[last] ?? 0) : 0);
  for (let lane = 0; blocks > 0 && lane < perBlock; lane++)
    end += ((words[last + 1 + (lane >> 1)] ?? 0) >>> (16 * (lane & 1))) & 0xffff;
  return end;
}

/** Of a coded container with this table, whose streams end at word `end`. */
export function decodeStep(
  kind: LosslessCoded,
  bytes: number,
  frequencies: Uint16Array,
  end: number,
): Step<'lossless-decode'> {
  const { rest, directory } = losslessLayout(kind, bytes, frequencies);
  const constants = { FORMAT: LOSSLESS_FORMAT[kind] };
  return { kernel: 'lossless-decode', constants, parameters: { bytes, rest, directory, end } };
}
