// Whom of several to put in charge: who would have had most of late. Pure. What each would have had is added up, and fades with
// time: a memory of some requests for each entry, as it takes that long until another's order shows. Another is put in charge who
// is ahead by more than chance makes of it; chance is told from how the lead comes about, in few large steps or in many small ones.
// Who falls short in charge of what his shadow promised is believed less for a while: once the cache is what he made of it.

export interface ChoiceSettings {
  /** What is remembered, in requests for each entry of a shadow. */
  readonly memory: number;
  /** By how many standard deviations another has to be ahead. */
  readonly margin: number;
}

/** Requests that all were asked, in the worth of their hits. */
export interface Round {
  readonly requests: number;
  readonly worth: number;
  /** What the cache itself had. */
  readonly held: number;
  /** What each candidate would have had. */
  readonly won: readonly number[];
}

export interface Choice {
  /** By candidate, of late; 0 before there was any round. */
  ratioOf(at: number): number;
  /** Shadows have so many entries. */
  count(round: Round, inCharge: number, shadowEntries: number): void;
  /** Who should be in charge now. */
  best(inCharge: number): number;
  /** Hits are worth something else from now on: what was counted says nothing any more. */
  forget(): void;
}

/** Below, a memory would be shorter than a few rounds. */
const ENTRIES_MIN = 256;
/** Less than this share of all is no lead, however steady: a change has its price. */
const LEAD_MIN = 0.002;
/** The real cache falls short of any shadow by some, for the changes. */
const SHORTFALL_MIN = 0.05;
/** Requests for each entry before it is looked at: whom a change put in charge makes the cache his own first. */
const TURNED_MIN = 1;
/** What a round counts for in it. */
const SHORTFALL_RECENT = 0.25;
/** It fades so much slower than what was won, lest the same be tried again and again. */
const SHORTFALL_FADES = 0.25;

export function createChoice(candidates: number, { memory, margin }: ChoiceSettings): Choice {
  const won = new Float64Array(candidates);
  /** By pair: the sum of squares of what one was ahead of the other by in each round. */
  const spread = new Float64Array(candidates * candidates);
  /** What each fell short of its shadow by while in charge, as a ratio. */
  const shortfall = new Float64Array(candidates);
  let worth = 0;
  /** Who was in charge last, and requests for each entry since he came. */
  let holder = 0;
  let turned = 0;

  function fade(kept: number): void {
    worth *= kept;
    for (let one = 0; one < candidates; one++) {
      (won[one] as number) *= kept;
      (shortfall[one] as number) *= kept ** SHORTFALL_FADES;
    }
    for (let pair = 0; pair < spread.length; pair++) (spread[pair] as number) *= kept * kept;
  }

  function add(round: Round): void {
    worth += round.worth;
    for (let one = 0; one < candidates; one++) {
      const own = round.won[one] as number;
      (won[one] as number) += own;
      for (let other = 0; other < candidates; other++)
        (spread[one * candidates + other] as number) += (own - (round.won[other] as number)) ** 2;
    }
  }

  /** Nobody promises less than nothing: where none has any hits, the one that could have some stays until it does. */
  const promise = (one: number): number =>
    Math.max(0, (won[one] as number) - Math.max(0, (shortfall[one] as number) - SHORTFALL_MIN) * worth);

  return {
    ratioOf: (at) => (worth > 0 ? (won[at] as number) / worth : 0),
    count(round, inCharge, shadowEntries) {
      const share = round.requests / Math.max(ENTRIES_MIN, shadowEntries);
      fade(Math.exp(-share / memory));
      add(round);
      if (inCharge !== holder) turned = 0;
      holder = inCharge;
      turned += share;
      if (turned <= TURNED_MIN || round.worth <= 0) return;
      const missing = ((round.won[inCharge] as number) - round.held) / round.worth;
      (shortfall[inCharge] as number) += SHORTFALL_RECENT * (missing - (shortfall[inCharge] as number));
    },
    best(inCharge) {
      let best = inCharge;
      let most = margin;
      for (let one = 0; one < candidates; one++) {
        const ahead = promise(one) - promise(inCharge);
        if (ahead <= LEAD_MIN * worth) continue;
        const lead = ahead / Math.sqrt(spread[one * candidates + inCharge] as number);
        if (lead <= most) continue;
        most = lead;
        best = one;
      }
      return best;
    },
    forget() {
      worth = 0;
      for (const column of [won, spread, shortfall]) column.fill(0);
    },
  };
}
