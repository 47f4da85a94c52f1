// What is in flight never exceeds its bounds, and who waits is served in the order of the line.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createFlight } from '../../../core/gpu/flight.ts';
import { seeded } from '../../support/seeded.ts';

const BOUNDS = { framesMax: 5, bytesMax: 1000, lineMax: 50 };

test('enter() never exceeds the bounds and keeps the order, whoever leaves', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  const flight = createFlight(BOUNDS);
  const begun: number[] = [];
  const given: number[] = [];
  const leaves = new Map<number, () => boolean>();
  const sizes: number[] = [];
  const inFlight = new Set<number>();
  const leftLine = new Set<number>();

  const answerOne = () => {
    const [id] = inFlight;
    if (id === undefined) return;
    inFlight.delete(id);
    flight.leave(sizes[id] ?? 0);
  };
  for (let step = 0; step < 5000; step++) {
    const action = random.below(10);
    if (action < 5) {
      const id = sizes.length;
      sizes.push(random.pick([0, 1, 10, 200, 600, 1000]));
      const full = flight.waiting === BOUNDS.lineMax;
      const leave = flight.enter(sizes[id] ?? 0, () => {
        begun.push(id);
        inFlight.add(id);
      });
      assert.equal(leave === undefined, full, 'a full line takes nobody, any other does');
      if (leave) {
        given.push(id);
        leaves.set(id, leave);
      }
    } else if (action < 8) answerOne();
    else {
      const id = random.below(Math.max(1, sizes.length));
      const hasBegun = begun.includes(id);
      const left = leaves.get(id)?.();
      if (left !== undefined) assert.equal(left, !hasBegun && !leftLine.has(id));
      if (left) leftLine.add(id);
    }
    assert.ok(flight.frames <= BOUNDS.framesMax && flight.bytes <= BOUNDS.bytesMax);
    assert.equal(flight.frames, inFlight.size);
    assert.equal(
      flight.bytes,
      [...inFlight].reduce((sum, id) => sum + (sizes[id] ?? 0), 0),
    );
  }
  while (flight.frames > 0) answerOne();
  assert.equal(flight.waiting, 0);
  assert.deepEqual(
    begun,
    given.filter((id) => !leftLine.has(id)),
    'in the order of the line',
  );
});

test('a small request does not pass a large one that waits', () => {
  const flight = createFlight(BOUNDS);
  const begun: string[] = [];
  flight.enter(900, () => begun.push('first'));
  const leave = flight.enter(500, () => begun.push('large'));
  flight.enter(1, () => begun.push('small'));
  assert.deepEqual(begun, ['first']);
  assert.equal(leave?.(), true);
  assert.deepEqual(begun, ['first', 'small'], 'the large one gone, the small one fits');
});

test('enter() refuses what could never begin', () => {
  assert.throws(() => createFlight(BOUNDS).enter(1001, () => {}), /1001 bytes; 1000 are in flight at most/);
});
