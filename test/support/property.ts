// Properties of what any order of calls may do to: fast-check makes sequences of commands and runs them against the real thing
// with a model beside it, and where a step fails looks for the shortest sequence that still fails. Seeded (SEED): the message of a
// failure names the commands and the seed of its round, and SEED=… with that number begins with that round.
import type { TestContext } from 'node:test';
import fc from 'fast-check';
import { seeded } from './seeded.ts';

/** Of one sequence. */
const COMMANDS_MAX = 400;
const SEQUENCES = 20;
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

interface Step<World> {
  readonly name: string;
  run(world: World): void | Promise<void>;
}

/** Steps that were made, by kind; throws with the shortest sequence that was found to fail. */
export function walk<World extends object>(t: TestContext, w: Walk<World>): Map<string, number> {
  const counts = new Map<string, number>();
  const seed = seeded().seed + (w.part ?? 0) * PART_ROUNDS;
  t.diagnostic(`SEED=${seeded().seed}`);
  const commands = fc.commands(
    commandsOf(w, (step, world) => {
      step.run(world);
      w.check(world);
      counts.set(step.name, (counts.get(step.name) ?? 0) + 1);
    }),
    { maxCommands: COMMANDS_MAX, size: 'max' },
  );
  const property = fc.property(commands, (sequence) => {
    const world = w.open();
    fc.modelRun(() => ({ model: world, real: world }), sequence);
    w.end?.(world);
  });
  for (let round = 0; total(counts) < w.steps; round++)
    fc.assert(property, { seed: seed + round, numRuns: SEQUENCES, includeErrorInReport: true });
  t.diagnostic(`${total(counts)} steps: ${JSON.stringify(Object.fromEntries(counts))}`);
  return counts;
}

function commandsOf<World extends object>(
  { kinds }: Pick<Walk<World>, 'kinds'>,
  run: (step: Step<World>, world: World) => void,
): fc.Arbitrary<fc.Command<World, World>>[] {
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
