// Who says which leaf leaves first: each expert ranks blocks by their last use, by how often and how long ago they were used (uses.ts),
// and perhaps by what it costs to compute them again. The lowest rank leaves first. Pure.
import { HALF_LIVES, weightOf } from './uses.ts';

export interface Expert {
  readonly name: string;
  /** Which of HALF_LIVES; undefined where only the last use counts, or only the number of uses. */
  readonly halfLife?: number;
  /** What twice the cost counts, in doublings of uses. */
  readonly costExponent?: number;
}

const LRU: Expert = { name: 'lru' };
/** Perfect LFU; not of the portfolio: what was used a lot and never will be again stays for good. */
const LFU: Expert = { name: 'lfu' };
const byHalfLife = (name: (turnovers: number) => string, costExponent: number): Expert[] =>
  HALF_LIVES.map((turnovers, halfLife) => ({ name: name(turnovers), halfLife, costExponent }));

/** The portfolio; the first is in charge at the beginning. */
export const EXPERTS: readonly [Expert, ...Expert[]] = [
  LRU,
  ...byHalfLife((turnovers) => `lrfu-${turnovers}c`, 0),
  ...byHalfLife((turnovers) => `lrfu-${turnovers}c-cost`, 1),
];
export const EXPERT_NAMES: readonly string[] = [...EXPERTS.map(({ name }) => name), LFU.name];
export const expertNamed = (name: string): Expert | undefined => [...EXPERTS, LFU].find((one) => one.name === name);

/** Tokens before a token for which attention costs as much as all else: about that of a model with eight billion weights. */
const TOKENS_OF_EQUAL_COST = 30_500;

/** To compute the block behind so many tokens, where the first of a sequence costs 1. */
export const costOf = (tokensBefore: number): number => 1 + tokensBefore / TOKENS_OF_EQUAL_COST;

/** Among equals in uses, the one used last counts more; by so little that it never makes up for a use. */
const TIME_IN_LFU = 2 ** -40;

/** Rises with a use, and does not change without one. */
export function rankOf(
  { halfLife, costExponent = 0, name }: Expert,
  turnover: number,
  time: number,
  uses: number,
  weights: Uint16Array,
  weightsAt: number,
  tokensBefore: number,
): number {
  if (halfLife === undefined) return name === LFU.name ? uses + time * TIME_IN_LFU : time;
  const recency = time / (turnover * (HALF_LIVES[halfLife] as number));
  const cost = costExponent === 0 ? 0 : costExponent * Math.log2(costOf(tokensBefore));
  return recency + weightOf(weights, weightsAt + halfLife) + cost;
}
