// Properties of what any order of calls may do to: fast-check makes sequences of commands and runs them against the real thing
// with a model beside it, and where a step fails looks for the shortest sequence that still fails. Seeded (SEED): the message of a
// failure names the commands and the seed of its round, and SEED=… with that number begins with that round.
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import { seeded } from './seeded.ts';

/** Of one sequence. */
const COMMANDS_MAX = 400;
const SEQUENCES = 20;
const SLOW_COMMANDS_MAX = 60;
/** Looking for a shorter sequence ends then. */
const SLOW_MS_MAX = 120_000;
/** No part has more. */
const PART_ROUNDS = 1_000_000;

/** A kind of step: its name, what it may be told, and what it does; it throws where the model says otherwise. */
export interface Kind<World> {
  readonly name: string;
  /** How often, beside the others. */
  readonly weight: number;
  readonly told: fc.Arbitrary<unknown>;
  act(world: World, told: unknown): void | Promise<void>;
}

/** `told` and what `act` takes agree. */
export const kind = <World, Told>(
  name: string,
  weight: number,
  told: fc.Arbitrary<Told>,
  act: (world: World, told: Told) => void | Promise<void>,
): Kind<World> => ({ name, weight, told, act: (world, each) => act(world, each as Told) });

export interface Walk<World> {
  readonly kinds: readonly Kind<World>[];
  /** At least so many, in sequences that each begin anew. */
  readonly steps: number;
  /** Of several walks with one seed. */
  readonly part?: number;
  readonly open: () => World;
  /** After every step. */
  readonly check: (world: World) => void;
  /** After the last step of a sequence. */
  readonly end?: (world: World) => void;
}

export interface SlowWalk<World> extends Omit<Walk<World>, 'open' | 'end'> {
  readonly open: () => Promise<World>;
  readonly end?: (world: World) => Promise<void>;
}

interface Step<World> {
  readonly name: string;
  run(world: World): void | Promise<void>;
}

/** Steps that were made, by kind; throws with the shortest sequence that was found to fail. */
export function walk<World extends object>(t: TestContext, w: Walk<World>): Map<string, number> {
  const { counts, count, rounds, tell } = begin(t, w);
  const commands = commandsOf(w, (step, world) => {
    step.run(world);
    w.check(world);
    count(step);
  });
  const property = fc.property(fc.commands(commands, { maxCommands: COMMANDS_MAX, size: 'max' }), (sequence) => {
    const world = w.open();
    fc.modelRun(() => ({ model: world, real: world }), sequence);
    w.end?.(world);
  });
  for (const round of rounds()) fc.assert(property, round);
  tell();
  return counts;
}

/** The same over what has to be waited for, each sequence in the world that `open` makes ready for it. */
export async function walkSlowly<World extends object>(
  t: TestContext,
  w: SlowWalk<World>,
): Promise<Map<string, number>> {
  const { counts, count, rounds, tell } = begin(t, w);
  const commands = commandsOf<World, Promise<void>>(w, async (step, world) => {
    await step.run(world);
    w.check(world);
    count(step);
  });
  const sequences = fc.commands(commands, { maxCommands: SLOW_COMMANDS_MAX, size: 'max' });
  const property = fc.asyncProperty(sequences, async (sequence) => {
    const world = await w.open();
    await fc.asyncModelRun(() => ({ model: world, real: world }), sequence);
    await w.end?.(world);
  });
  for (const round of rounds()) await fc.assert(property, { ...round, interruptAfterTimeLimit: SLOW_MS_MAX });
  tell();
  return counts;
}

function begin(t: TestContext, { steps, part = 0 }: Pick<Walk<never>, 'steps' | 'part'>) {
  const counts = new Map<string, number>();
  const { seed } = seeded();
  t.diagnostic(`SEED=${seed}`);
  return {
    counts,
    count: ({ name }: { readonly name: string }) => void counts.set(name, (counts.get(name) ?? 0) + 1),
    *rounds() {
      for (let round = 0; total(counts) < steps; round++)
        yield { seed: seed + part * PART_ROUNDS + round, numRuns: SEQUENCES, includeErrorInReport: true };
    },
    tell: () => t.diagnostic(`${total(counts)} steps: ${JSON.stringify(Object.fromEntries(counts))}`),
  };
}

interface OneCommand<World, Done> {
  check(): boolean;
  run(world: World): Done;
  toString(): string;
}

function commandsOf<World extends object, Done = void>(
  { kinds }: Pick<Walk<World>, 'kinds'>,
  run: (step: Step<World>, world: World) => Done,
): fc.Arbitrary<OneCommand<World, Done>>[] {
  return kinds.flatMap(({ name, weight, told, act }) => {
    const command = told.map((each) => {
      const step: Step<World> = { name, run: (world) => act(world, each) };
      return {
        check: () => true,
        run: (world: World) => run(step, world),
        toString: () => `${name}(${fc.stringify(each)})`,
      };
    });
    return Array.from({ length: weight }, () => command);
  });
}

const total = (counts: ReadonlyMap<string, number>): number => [...counts.values()].reduce((sum, n) => sum + n, 0);
