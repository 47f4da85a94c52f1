// Rivals measured in turns: A B C, B C A, C A B, … so that whatever else the machine does hits all of them, and nobody
// always runs in another's wake. One round of warm-up is not counted. CPU time is read around all counted rounds, so it
// includes what a server does after it has answered.
import { setTimeout as sleep } from 'node:timers/promises';
import { cpuMsOf } from './cpu.ts';

/** Before each turn: what the turn before left to do in the background may end. */
const PAUSE_MS = 10;

export interface Rival<R> {
  readonly name: string;
  /** Processes that work for this rival and for no other. */
  readonly pids: readonly number[];
  /** One turn; answers the milliseconds that count. Throws if the answer is wrong. */
  run(round: R): Promise<number> | number;
}

export interface Measured {
  readonly name: string;
  readonly ms: readonly number[];
  /** For each of the rival's processes, over all counted rounds. */
  readonly cpuMs: readonly (number | null)[];
}

export interface RoundsOptions<R> {
  readonly rounds: number;
  /** Makes what the rivals of one round share; not timed. */
  readonly begin: () => Promise<R> | R;
  readonly rivals: readonly Rival<R>[];
}

export async function takeTurns<R>({ rounds, begin, rivals }: RoundsOptions<R>): Promise<Measured[]> {
  const times = rivals.map((): number[] => []);
  let before = rivals.map(({ pids }) => pids.map(cpuMsOf));
  for (let round = 0; round <= rounds; round++) {
    const shared = await begin();
    for (let turn = 0; turn < rivals.length; turn++) {
      const index = (round + turn) % rivals.length;
      await sleep(PAUSE_MS);
      const ms = await rivals[index]?.run(shared);
      if (ms !== undefined && round > 0) times[index]?.push(ms);
    }
    if (round === 0) before = rivals.map(({ pids }) => pids.map(cpuMsOf));
  }
  return rivals.map(({ name, pids }, index) => ({
    name,
    ms: times[index] ?? [],
    cpuMs: pids.map((pid, i) => difference(cpuMsOf(pid), before[index]?.[i] ?? null)),
  }));
}

const difference = (after: number | null, before: number | null): number | null =>
  after === null || before === null ? null : after - before;
