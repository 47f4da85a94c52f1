// Where a new lease goes: one number for each adapter, from its room and its work; the highest has it. Pure.
import { SLAB_BYTES } from './pages.ts';

export interface Load {
  readonly freeBytes: number;
  /** Share of the last seconds with work pending, 0 to 1. */
  readonly utilization: number;
  /** Requests not yet answered. */
  readonly queue: number;
}

/** So many waiting requests halve an adapter's worth. */
const QUEUE_HALVES = 16;

/**
 * Free bytes, as many as can be had, for a lease stays where it was placed, and a full adapter evicts; but bytes that have to
 * be waited for are worth less: half on an adapter that is always busy, half again behind sixteen requests. The slab that is
 * added lets full adapters differ by how busy they are.
 */
export const worth = ({ freeBytes, utilization, queue }: Load): number =>
  ((freeBytes + SLAB_BYTES) * (1 - utilization / 2)) / (1 + queue / QUEUE_HALVES);

/** The best first; among equals, in the order given. */
export const byWorth = <T>(all: readonly T[], load: (one: T) => Load): T[] =>
  all
    .map((one) => ({ one, value: worth(load(one)) }))
    .sort((a, b) => b.value - a.value)
    .map(({ one }) => one);
