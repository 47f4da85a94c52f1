// Whom the adaptive policy puts in charge: not for noise, soon where the load turns, and not for one who falls short; and the
// popularity that all its experts share.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashOfNumber } from '../../../../bench/lib/replay.ts';
import { createChoice } from '../../../../core/cache/policy/choice.ts';
import { Entries } from '../../../../core/cache/policy/entries.ts';
import { Popularity } from '../../../../core/cache/policy/popularity.ts';

const SETTINGS = { memory: 8, margin: 1 };
const ENTRIES = 160;
const round = (first: number, second: number, held = first) => ({
  ...{ requests: 100, worth: 100, held, won: [first, second] },
});
/** So many rounds with the first of two in charge. */
function after(rounds: readonly ReturnType<typeof round>[], inCharge = 0, entries = ENTRIES) {
  const choice = createChoice(2, SETTINGS);
  for (const one of rounds) choice.count(one, inCharge, entries);
  return choice;
}
const repeat = (times: number, ...rounds: ReturnType<typeof round>[]) =>
  Array.from({ length: times }, () => rounds).flat();

test('best() leaves in charge who is behind by what chance makes of it', () => {
  assert.equal(after(repeat(10, round(40, 60), round(60, 41))).best(0), 0);
  assert.equal(after(repeat(10, round(50, 50))).best(0), 0);
});

test('best() sees a small lead that is there in every round', () => {
  assert.equal(after(repeat(10, round(50, 51))).best(0), 1);
  assert.equal(after(repeat(10, round(50, 51)), 1).best(1), 1);
});

test('best() sees soon that the load has turned into another', () => {
  const choice = after(repeat(50, round(60, 50)));
  assert.equal(choice.best(0), 0);
  for (let i = 0; i < 10; i++) choice.count(round(10, 60), 0, ENTRIES);
  assert.equal(choice.best(0), 1);
});

test('what was counted fades within so many requests an entry: sooner in a smaller cache', () => {
  const turned = [...repeat(50, round(80, 50)), ...repeat(20, round(50, 80))];
  assert.equal(after(turned, 0, 4000).best(0), 0);
  assert.equal(after(turned, 0, 40).best(0), 1);
});

test('who falls short in charge of what his shadow promised is believed less', () => {
  assert.equal(after(repeat(10, round(50, 48, 20))).best(0), 1);
  assert.equal(after(repeat(10, round(50, 48, 50))).best(0), 0);
  assert.equal(after(repeat(10, round(50, 48, 60))).best(0), 0, 'more than it promised is no promise');
});

test('who falls short where no other has anything stays, until the cache is his own', () => {
  assert.equal(after(repeat(30, round(20, 0, 0))).best(0), 0);
});

test('ratioOf() is what each would have had of late, and forget() begins anew', () => {
  const choice = after(repeat(100, round(20, 10)));
  assert.ok(Math.abs(choice.ratioOf(0) - 0.2) < 1e-9 && Math.abs(choice.ratioOf(1) - 0.1) < 1e-9);
  choice.forget();
  assert.deepEqual([choice.ratioOf(0), choice.best(0)], [0, 0]);
  choice.count(round(60, 70), 0, ENTRIES);
  assert.deepEqual([choice.ratioOf(0), choice.ratioOf(1)], [0.6, 0.7]);
});

test('Popularity counts across stays, up to fifteen, and halves in time', () => {
  const entries = new Entries(1000);
  const popularity = new Popularity(entries);
  const enter = (key: number) => {
    const slot = entries.add(hashOfNumber(key), 1, 1);
    popularity.enter(slot);
    return slot;
  };
  const first = enter(1);
  for (let i = 0; i < 3; i++) popularity.use(first);
  assert.equal(popularity.of(first), 4);
  popularity.leave(first);
  entries.drop(first, true);
  const again = enter(1);
  assert.equal(popularity.of(again), 5);
  for (let i = 0; i < 20; i++) popularity.use(again);
  assert.equal(popularity.of(again), 15);
  for (let key = 2; key < 500; key++) enter(key);
  assert.ok(popularity.of(again) <= 7);
});
