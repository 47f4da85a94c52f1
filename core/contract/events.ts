// Numbered events, as they are kept and followed. Pure.
import { z } from 'zod';
import { integer } from './settings.ts';

/** From which number on; left out: from now on. */
export const eventsQuerySchema = z.strictObject({ after: integer(0, Number.MAX_SAFE_INTEGER).optional() });

/** Some are no longer kept: those behind `after`, before `next`. */
export interface Gap {
  readonly type: 'gap';
  readonly after: number;
  readonly next: number;
}
export type Numbered<E> = (E | Gap) & { readonly id: number };
