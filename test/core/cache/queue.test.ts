// A queue has its first at hand whoever comes, leaves or changes its rank, and asks few to find it.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createQueue, type Queued } from '../../../core/cache/queue.ts';
import { seeded } from '../../support/seeded.ts';

interface Guest extends Queued {
  rank: number;
}

test('first of all over a random walk, in few comparisons', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  let compared = 0;
  const queue = createQueue<Guest>((a, b) => {
    compared++;
    return a.rank < b.rank;
  });
  const inside = new Set<Guest>();
  const guests = Array.from({ length: 1000 }, (): Guest => ({ rank: random.below(400), place: -1 }));
  for (let step = 0; step < 20_000; step++) {
    const guest = guests[random.below(guests.length)] as Guest; // there are so many
    compared = 0;
    if (random.below(5) < 3) {
      guest.rank = random.below(400);
      queue.put(guest);
      inside.add(guest);
    } else {
      queue.delete(guest);
      inside.delete(guest);
    }
    assert.ok(compared <= 40, `${compared} comparisons`); // 10 up, or two for each of 10 down, and one more to know it
    assert.equal(guest.place >= 0, inside.has(guest));
    if (step % 20 > 0) continue;
    assert.equal(queue.all.length, inside.size);
    assert.equal(queue.all[0]?.rank, inside.size > 0 ? Math.min(...[...inside].map(({ rank }) => rank)) : undefined);
  }
  const ranks: number[] = [];
  for (let [first] = queue.all; first; [first] = queue.all) {
    ranks.push(first.rank);
    queue.delete(first);
    queue.delete(first); // out already
  }
  assert.deepEqual(
    ranks,
    ranks.toSorted((a, b) => a - b),
  );
  assert.equal(ranks.length, inside.size);
});
