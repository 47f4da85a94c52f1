// Work that takes a kernel several times, level by level, each on what the level before gave. Pure: numbers only; whoever
// dispatches brings the buffers.
import { CHECKSUM_UNITS } from './catalogue.ts';
import { parts } from './kernel.ts';

const UNIT_BYTES = 16;
/** Above so many units, streams are read side by side by 64 lanes; below, each stream is one run of units. */
const APART_UNITS = 4096;
const LANES = 64;

/** The parameters of a dispatch of checksum. */
export interface ChecksumStep {
  readonly bytes: number;
  readonly streams: number;
  readonly lanes: number;
  readonly level: number;
}

/** The levels that bring `bytes` bytes, 2^32 - 1 at most, down to 16; the source of each is the target of the one before. */
export function checksumSteps(bytes: number): ChecksumStep[] {
  const steps: ChecksumStep[] = [];
  let left = bytes;
  do {
    const units = parts(left, UNIT_BYTES);
    const lanes = units > APART_UNITS ? LANES : 1;
    const run = lanes * CHECKSUM_UNITS;
    const rest = units % run;
    const streams = Math.max(1, Math.floor(units / run) * lanes + Math.min(rest, lanes));
    steps.push({ bytes: left, streams, lanes, level: steps.length });
    left = streams * UNIT_BYTES;
  } while (left > UNIT_BYTES);
  return steps;
}

/** The parameters of a dispatch of reduce. */
export interface ReduceStep {
  readonly length: number;
  readonly span: number;
}

/** The levels that fold `length` values into one, `span` at a time. */
export function reduceSteps(length: number, span = 4096): ReduceStep[] {
  const steps: ReduceStep[] = [];
  for (let left = length; steps.length === 0 || left > 1; left = parts(left, span)) steps.push({ length: left, span });
  return steps;
}
