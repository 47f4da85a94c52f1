// Where a new lease goes, by room and by work.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SLAB_BYTES } from '../../../core/gpu/pages.ts';
import { byWorth, type Load, worth } from '../../../core/gpu/placement.ts';
import { seeded } from '../../support/seeded.ts';

const idle = (slabs: number): Load => ({ freeBytes: slabs * SLAB_BYTES, utilization: 0, queue: 0 });
const best = (...loads: Load[]) => loads.indexOf(byWorth(loads, (load) => load)[0] as Load);

test('worth() falls with every byte taken, with use, and with the queue, and never to nothing', (t) => {
  const random = seeded();
  t.diagnostic(`SEED=${random.seed}`);
  for (let i = 0; i < 1000; i++) {
    const load = { freeBytes: random.below(1 << 30), utilization: random.next() * 0.9, queue: random.below(100) };
    assert.ok(worth(load) > 0);
    assert.ok(worth({ ...load, freeBytes: load.freeBytes + 1 }) > worth(load));
    assert.ok(worth({ ...load, utilization: load.utilization + 0.1 }) < worth(load));
    assert.ok(worth({ ...load, queue: load.queue + 1 }) < worth(load));
  }
});

test('an adapter that is always busy counts half, one behind sixteen requests half again', () => {
  assert.equal(worth({ ...idle(9), utilization: 1 }), worth(idle(9)) / 2);
  assert.equal(worth({ ...idle(9), queue: 16 }), worth(idle(9)) / 2);
});

test('byWorth() takes the emptier of equals, the idler of equals, and the idler of full ones; else the first', () => {
  assert.equal(best(idle(3), idle(4)), 1);
  assert.equal(best({ ...idle(4), utilization: 0.5 }, idle(4)), 1);
  assert.equal(best({ ...idle(0), queue: 3 }, idle(0)), 1);
  assert.equal(best(idle(4), idle(4)), 0);
  assert.equal(best({ ...idle(100), utilization: 1 }, idle(20)), 0, 'much room outweighs work');
  assert.equal(best({ ...idle(25), utilization: 1 }, idle(20)), 1, 'a little more does not');
});
