// W-TinyLFU (Einziger, Friedman, Manes 2017), in bytes: newcomers pass a window; who falls out of it has to be asked for more often,
// by the sketch, than the coldest of the main part, or leaves. The main part is two lists: on probation, and protected (used
// there). With the climber, the window grows or shrinks as long as that brings hits, else the other way. Pure.
import type { Entries } from './entries.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';
import { Sketch } from './sketch.ts';

const WINDOW = 0;
const PROBATION = 1;
const PROTECTED = 2;

const WINDOW_SHARE = 0.01;
const PROTECTED_SHARE = 0.8;
/** One who is asked for this seldom has to win outright; a warmer loser is let in now and then, lest the hash be gamed. */
const COUNT_COLD = 5;
const LUCKY_OF = 128;

const STEP = 0.0625;
const STEP_DECAY = 0.98;
/** A change of the hit ratio that says that the workload is another. */
const CHANGE_LARGE = 0.05;
const REQUESTS_PER_ENTRY = 10;
const ENTRIES_MIN = 8;

export function createWTinyLfu(entries: Entries, climbing: boolean): Policy {
  const lists = new Lists(entries, 3);
  const sketch = new Sketch(Math.max(ENTRIES_MIN, entries.count));
  const climber = createClimber();
  let luck = 12_345;

  const windowMax = () => climber.window * entries.bytesMax;
  const protectedMax = () => climber.protected * entries.bytesMax;

  function count(slot: number): void {
    sketch.fit(entries.count);
    sketch.add(entries.hash[slot] as number);
  }

  function isLucky(): boolean {
    luck = (Math.imul(luck, 1_103_515_245) + 12_345) | 0;
    return (luck >>> 16) % LUCKY_OF === 0;
  }

  function wins(challenger: number, defender: number): boolean {
    const uses = sketch.count(entries.hash[challenger] as number);
    if (uses > sketch.count(entries.hash[defender] as number)) return true;
    return uses > COUNT_COLD && isLucky();
  }

  function coldestOfMain(mayLeave: MayLeave): number {
    const slot = lists.coldest(PROBATION, mayLeave);
    return slot === NONE ? lists.coldest(PROTECTED, mayLeave) : slot;
  }

  function victim(bytes: number, mayLeave: MayLeave): number {
    const defender = coldestOfMain(mayLeave);
    const isWindowFull = (lists.bytes[WINDOW] as number) + bytes > windowMax();
    if (!isWindowFull && defender !== NONE) return defender;
    const challenger = lists.coldest(WINDOW, mayLeave);
    if (challenger === NONE || defender === NONE) return challenger === NONE ? defender : challenger;
    if (!wins(challenger, defender)) return challenger;
    lists.move(PROBATION, challenger);
    return defender;
  }

  function spill(from: number, to: number, bytesMax: number): void {
    while ((lists.bytes[from] as number) > bytesMax) lists.move(to, lists.last(from));
  }

  function climb(hit: boolean): void {
    if (!climbing || !climber.count(hit, REQUESTS_PER_ENTRY * Math.max(ENTRIES_MIN, entries.count))) return;
    spill(PROTECTED, PROBATION, protectedMax());
    spill(WINDOW, PROBATION, windowMax());
    for (let slot = lists.last(PROBATION); slot !== NONE; slot = lists.last(PROBATION)) {
      if ((lists.bytes[WINDOW] as number) + (entries.bytes[slot] as number) > windowMax()) break;
      lists.move(WINDOW, slot);
    }
  }

  return {
    hit(slot) {
      count(slot);
      const list = lists.of(slot);
      lists.move(list === WINDOW ? WINDOW : PROTECTED, slot);
      if (list === PROBATION) spill(PROTECTED, PROBATION, protectedMax());
      climb(true);
    },
    admit(slot) {
      count(slot);
      spill(WINDOW, PROBATION, Math.max(0, windowMax() - (entries.bytes[slot] as number)));
      lists.push(WINDOW, slot);
      climb(false);
    },
    adopt(slot) {
      const bytes = entries.bytes[slot] as number;
      const isFor = (list: number, bytesMax: number) => (lists.bytes[list] as number) + bytes <= bytesMax;
      const isProbation = isFor(PROBATION, entries.bytesMax - windowMax() - protectedMax());
      lists.push(isProbation ? PROBATION : isFor(PROTECTED, protectedMax()) ? PROTECTED : WINDOW, slot);
      sketch.fit(entries.count);
      for (let uses = Math.min(COUNT_COLD, entries.uses[slot] as number); uses > 0; uses--)
        sketch.add(entries.hash[slot] as number);
    },
    victim: (_hash, bytes, mayLeave) => victim(bytes, mayLeave),
    evict: (slot) => lists.take(slot),
    remove: (slot) => lists.take(slot),
    coldestFirst(visit) {
      for (const list of [PROBATION, WINDOW, PROTECTED]) lists.coldestFirst(list, visit);
    },
    ...(climbing ? { learnt: () => climber.window, learn: climber.begin } : {}),
  };
}

/** Shares of the room for the window and the protected list; what one gains the other loses. */
function createClimber() {
  let window = WINDOW_SHARE;
  let guarded = (1 - WINDOW_SHARE) * PROTECTED_SHARE;
  let step = -STEP;
  let hits = 0;
  let requests = 0;
  let ratioBefore = 0;

  function shift(by: number): void {
    const next = Math.min(Math.max(window + by, 0), 1, window + guarded);
    guarded = Math.max(0, guarded - (next - window));
    window = next;
  }

  return {
    get window() {
      return window;
    },
    get protected() {
      return guarded;
    },
    begin: (share: number) => shift(share - window),
    /** Whether the shares changed. */
    count(hit: boolean, requestsPerStep: number): boolean {
      if (hit) hits++;
      if (++requests < requestsPerStep) return false;
      const ratio = hits / requests;
      const change = ratio - ratioBefore;
      const by = change >= 0 ? step : -step;
      step = Math.abs(change) >= CHANGE_LARGE ? Math.sign(by || 1) * STEP : STEP_DECAY * by;
      ratioBefore = ratio;
      hits = requests = 0;
      shift(by);
      return true;
    },
  };
}
