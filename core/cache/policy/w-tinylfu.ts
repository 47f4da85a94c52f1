// W-TinyLFU (Einziger, Friedman, Manes 2017), in bytes: newcomers pass a window; who falls out of it has to be asked for more often
// than the coldest of the main part, or leaves. The main part is two lists: on probation, and protected (used there). Who is
// asked for how often is told by the popularity that it is given, or else by one of its own. With the climber, the window grows or shrinks as long
// as that brings hits, else the other way. Pure.
import type { Entries } from './entries.ts';
import { Lists } from './lists.ts';
import { type MayLeave, NONE, type Policy } from './policy.ts';
import { Popularity } from './popularity.ts';

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

type Create = (entries: Entries, objective?: unknown, popularity?: Popularity) => Policy;
export const createWTinyLfu: Create = (entries, _, popularity) => create(entries, false, popularity);
export const createClimbingWTinyLfu: Create = (entries, _, popularity) => create(entries, true, popularity);

function create(entries: Entries, climbing: boolean, known: Popularity | undefined): Policy {
  const lists = new Lists(entries, 3, true);
  /** Of one that is given, somebody else keeps count. */
  const isOwn = known === undefined;
  const popularity = known ?? new Popularity(entries);
  const climber = createClimber();
  let luck = 12_345;

  const windowMax = () => climber.window * entries.bytesMax;
  const protectedMax = () => climber.protected * entries.bytesMax;
  const entriesNow = () => Math.max(ENTRIES_MIN, entries.count);

  function isLucky(): boolean {
    luck = (Math.imul(luck, 1_103_515_245) + 12_345) | 0;
    return (luck >>> 16) % LUCKY_OF === 0;
  }

  function wins(challenger: number, defender: number): boolean {
    const count = popularity.of(challenger);
    return count > popularity.of(defender) || (count > COUNT_COLD && isLucky());
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

  /** After the shares changed. */
  function rebalance(): void {
    spill(PROTECTED, PROBATION, protectedMax());
    spill(WINDOW, PROBATION, windowMax());
    for (let slot = lists.last(PROBATION); slot !== NONE; slot = lists.last(PROBATION)) {
      if ((lists.bytes[WINDOW] as number) + (entries.bytes[slot] as number) > windowMax()) break;
      lists.move(WINDOW, slot);
    }
  }

  function climb(): void {
    climber.climb(REQUESTS_PER_ENTRY * entriesNow());
    rebalance();
  }

  function learn(share: number): void {
    climber.begin(share);
    rebalance();
  }

  return {
    hit(slot) {
      if (isOwn) popularity.use(slot);
      const list = lists.of(slot);
      lists.move(list === WINDOW ? WINDOW : PROTECTED, slot);
      if (list === PROBATION) spill(PROTECTED, PROBATION, protectedMax());
      if (climbing && climber.isDue(true)) climb();
    },
    admit(slot) {
      if (isOwn) popularity.enter(slot);
      spill(WINDOW, PROBATION, Math.max(0, windowMax() - (entries.bytes[slot] as number)));
      lists.push(WINDOW, slot);
      if (climbing && climber.isDue(false)) climb();
    },
    adopt(slot) {
      const bytes = entries.bytes[slot] as number;
      const isFor = (list: number, bytesMax: number) => (lists.bytes[list] as number) + bytes <= bytesMax;
      const isProbation = isFor(PROBATION, entries.bytesMax - windowMax() - protectedMax());
      lists.push(isProbation ? PROBATION : isFor(PROTECTED, protectedMax()) ? PROTECTED : WINDOW, slot);
      if (isOwn) popularity.adopt(slot);
    },
    victim: (_hash, bytes, mayLeave) => victim(bytes, mayLeave),
    evict(slot) {
      if (isOwn) popularity.leave(slot);
      lists.take(slot);
    },
    remove: (slot) => lists.take(slot),
    coldestFirst(visit) {
      for (const list of [PROBATION, WINDOW, PROTECTED]) lists.coldestFirst(list, visit);
    },
    ...(climbing ? { learnt: () => climber.window, learn } : {}),
  };
}

/** Shares of the room for the window and the protected list; what one gains the other loses. */
function createClimber() {
  let step = -STEP;
  let hits = 0;
  let requests = REQUESTS_PER_ENTRY * ENTRIES_MIN;
  let requestsLeft = requests;
  let ratioBefore = 0;

  function shift(by: number): void {
    const next = Math.min(Math.max(climber.window + by, 0), 1, climber.window + climber.protected);
    climber.protected = Math.max(0, climber.protected - (next - climber.window));
    climber.window = next;
  }

  const climber = {
    window: WINDOW_SHARE,
    protected: (1 - WINDOW_SHARE) * PROTECTED_SHARE,
    begin: (share: number) => shift(share - climber.window),
    /** Counts a request; whether it is time to climb. */
    isDue(hit: boolean): boolean {
      if (hit) hits++;
      return --requestsLeft <= 0;
    },
    climb(requestsNext: number): void {
      const ratio = hits / requests;
      const change = ratio - ratioBefore;
      const by = change >= 0 ? step : -step;
      step = Math.abs(change) >= CHANGE_LARGE ? Math.sign(by || 1) * STEP : STEP_DECAY * by;
      ratioBefore = ratio;
      hits = 0;
      requests = requestsLeft = requestsNext;
      shift(by);
    },
  };
  return climber;
}
