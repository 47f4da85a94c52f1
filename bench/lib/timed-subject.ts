// What the codec benchmark times on an adapter.
import type { AnyDispatch } from '../../core/gpu/kernel-choice.ts';

export interface TimedSubject {
  /** `tcq4 decode`; every form of the copy has the name `copy`. */
  readonly name: string;
  readonly variant: string;
  /** Of the values without a codec. */
  readonly plainBytes: number;
  /** What belongs together. */
  readonly dispatches: readonly AnyDispatch[];
}
