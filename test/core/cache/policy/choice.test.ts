// Whom the adaptive policy puts in charge: not for noise, soon for a large lead, and not again for one who falls short; and the
// popularity that all its experts share.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { hashOfNumber } from '../../../../bench/lib/replay.ts';
import { createChoice } from '../../../../core/cache/policy/choice.ts';
import { Entries } from '../../../../core/cache/policy/entries.ts';
import { Popularity } from '../../../../core/cache/policy/popularity.ts';

const SETTINGS = { smoothing: 0.5, margin: 0.01, dwell: 2, marginUrgent: 0.1 };
const ENTRIES = 160;
const round = (first: number, second: number, held = first) => ({
  ...{ requests: 100, worth: 100, held, won: [first, second] },
});

test('review() leaves in charge who is behind by no more than noise, and waits for the dwell', () => {
  const choice = createChoice(2, SETTINGS);
  choice.count(round(50, 50.5), 0, ENTRIES);
  assert.equal(choice.review(0), 0);
  choice.count(round(50, 50.5), 0, ENTRIES);
  assert.equal(choice.review(0), 0);
  choice.begin();
  choice.count(round(50, 54), 0, ENTRIES);
  assert.equal(choice.review(0), 0, 'it has just come');
  choice.count(round(50, 54), 0, ENTRIES);
  assert.equal(choice.review(0), 1);
  assert.ok(Math.abs(choice.ratioOf(1) - 0.53) < 0.01);
});

test('review() does not wait where another is better by far', () => {
  const choice = createChoice(2, SETTINGS);
  choice.count(round(10, 30), 0, 10_000);
  assert.equal(choice.review(0), 1);
});

test('count() answers at once when the load has turned, and forgets what was before', () => {
  const choice = createChoice(2, SETTINGS);
  for (let i = 0; i < 20; i++) assert.equal(choice.count(round(90, 40), 0, ENTRIES), 0);
  choice.review(0);
  assert.equal(choice.count(round(0, 100), 0, ENTRIES), 1);
  assert.ok(choice.ratioOf(0) > 0.5 && choice.ratioOf(0) < 0.9);
  choice.begin();
  assert.equal(choice.count(round(0, 20), 1, ENTRIES), 1);
});

test('count() wants more of a lead where more entries would change hands', () => {
  const choice = createChoice(2, SETTINGS);
  assert.equal(choice.count(round(0, 100), 0, 10_000), 0);
});

test('who falls short in charge of what his shadow promised is believed less', () => {
  const choice = createChoice(2, { ...SETTINGS, dwell: 0 });
  for (let i = 0; i < 10; i++) {
    choice.count(round(50, 48, 20), 0, ENTRIES);
    if (choice.review(0) === 1) return;
  }
  assert.fail('the one who holds 20 of 50 stays in charge');
});

test('forget() begins anew, whatever was counted', () => {
  const choice = createChoice(2, SETTINGS);
  for (let i = 0; i < 5; i++) choice.count(round(0, 10), 0, ENTRIES);
  choice.forget();
  choice.count(round(70, 60), 0, ENTRIES);
  assert.equal(choice.review(0), 0);
  assert.equal(choice.ratioOf(0), 0.7);
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
